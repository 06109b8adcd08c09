"""What the exporter's tests share: tiny models made on the fly, and the exporter run on them.

An archive's parity check takes the loaded model for the truth; these tests don't: each knows what the
files say. Run by ctest; alone:
  KVR_OPS=build/release/libkvr_ops.so .venv/bin/python -m pytest tests/exporter
"""

import contextlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

os.environ["TQDM_DISABLE"] = "1"  # before anything imports tqdm

import export_model
import pytest
import torch
import transformers
from make_tiny_models import byte_bpe, word_pieces
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)  # the models are tiny: a second thread would only wait
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

VOCAB = 300


class Lab:
    """A folder of tiny models; each method that makes one returns its path."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.out = folder / "out.pt"

    def gpt2(self, name: str = "m", **settings) -> Path:
        settings = {"vocab_size": VOCAB, "n_positions": 96, "n_embd": 32, "n_layer": 2, "n_head": 2,
                    "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3} | settings
        return self.language_model(name, transformers.GPT2LMHeadModel, transformers.GPT2Config, settings)

    def llama(self, name: str = "m", **settings) -> Path:
        settings = {"vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 96,
                    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                    "max_position_embeddings": 96, "bos_token_id": 0, "eos_token_id": 0,
                    "tie_word_embeddings": True, "initializer_range": 0.3} | settings
        return self.language_model(name, transformers.LlamaForCausalLM, transformers.LlamaConfig, settings)

    def language_model(self, name: str, kind: type, config: type, settings: dict) -> Path:
        path = self.folder / name
        path.mkdir()
        byte_bpe(path, VOCAB)
        torch.manual_seed(1)
        kind(config(**settings)).save_pretrained(path)
        (path / "generation_config.json").unlink(missing_ok=True)
        return path

    def bert(
        self, name: str = "m", pooling: dict | None = None, modules=("Transformer", "Pooling")
    ) -> Path:
        path = self.folder / name
        path.mkdir()
        vocab = word_pieces(path)
        torch.manual_seed(5)
        transformers.BertModel(transformers.BertConfig(
            vocab_size=vocab, hidden_size=48, num_hidden_layers=1, num_attention_heads=3,
            intermediate_size=96, max_position_embeddings=64,
        )).save_pretrained(path)
        if pooling is not None:
            parts = [{"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "",
                      "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(modules)]
            (path / "modules.json").write_text(json.dumps(parts))
            (path / "1_Pooling").mkdir()
            (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        return path

    def tokenizer(self, path: Path, *added: str, **settings) -> None:
        """Writes tokenizer_config.json; `added` tokens have the ids from VOCAB on."""
        flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                 "special": True}
        decoder = {str(VOCAB + i): {"content": t, **flags} for i, t in enumerate(added)}
        settings = {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": decoder} | settings
        (path / "tokenizer_config.json").write_text(json.dumps(settings))

    def edit(self, path: Path, change) -> None:
        """`change`: of the checkpoint's tensors by name, in place or to what it returns."""
        file = path / "model.safetensors"
        state = load_file(file)
        state = change(state) or state
        save_file({n: t.contiguous() for n, t in state.items()}, file, metadata={"format": "pt"})

    def configure(self, path: Path, **settings) -> None:
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | settings))

    def run(self, source, *options) -> tuple[int, str]:
        """Exit status and what was said; one line, and no archive, where it failed."""
        said = io.StringIO()
        self.out.unlink(missing_ok=True)
        arguments = ["export_model.py", str(source), "--out", str(self.out), *options]
        before, sys.argv = sys.argv, arguments
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                status = export_model.main()
        finally:
            sys.argv = before
        if status:
            lines = [x for x in said.getvalue().splitlines() if not x.startswith("[")]
            assert len(lines) == 1, said.getvalue()
            assert not self.out.exists()
        return status, said.getvalue()

    def exported(self, source, *options) -> tuple[torch.jit.ScriptModule, dict]:
        """The archive's network, and metadata.json."""
        status, said = self.run(source, *options)
        assert status == 0, said
        return torch.jit.load(str(self.out)), self.metadata(self.out)

    def metadata(self, archive: Path) -> dict:
        with zipfile.ZipFile(archive) as file:
            return json.loads(file.read(f"{file.namelist()[0].split('/')[0]}/extra/metadata.json"))

    def refused(self, source, status: int, *words: str) -> None:
        found, said = self.run(source)
        assert found == status, said
        for word in words:
            assert word in said


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
