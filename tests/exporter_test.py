#!/usr/bin/env python3
"""What the exporter takes, refuses and says of it: tiny folders and GGUF files, made on the fly.

An archive's parity check takes the loaded model for the truth; these tests don't: each knows what
the files say. Run by ctest; alone: KVR_OPS=build/release/libkvr_ops.so tests/exporter_test.py
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

os.environ["TQDM_DISABLE"] = "1"  # before anything imports tqdm

import export_model
import gguf
import numpy as np
import torch
import transformers
from kvr_export import sources, tokenizer
from kvr_export.families import FAMILIES
from make_tiny_models import byte_bpe, word_pieces
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class ExporterTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="kvr-exporter-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def gpt2(self, name: str = "m", **settings) -> Path:
        path = self.folder / name
        path.mkdir()
        vocab = byte_bpe(path, 300)
        settings = {"vocab_size": vocab, "n_positions": 96, "n_embd": 32, "n_layer": 2, "n_head": 2,
                    "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3} | settings
        torch.manual_seed(1)
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings))
        model.save_pretrained(path)
        (path / "generation_config.json").unlink(missing_ok=True)
        return path

    def edit(self, path: Path, change) -> None:
        file = path / "model.safetensors"
        state = load_file(file)
        state = change(state) or state
        save_file({n: t.contiguous() for n, t in state.items()}, file, metadata={"format": "pt"})

    def run_exporter(self, source, *options) -> tuple[int, str]:
        """Exit status and what was said; one line where it failed."""
        said = io.StringIO()
        arguments = ["export_model.py", str(source), "--out", str(self.folder / "out.pt"), *options]
        before, sys.argv = sys.argv, arguments
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                status = export_model.main()
        finally:
            sys.argv = before
        if status:
            lines = [x for x in said.getvalue().splitlines() if not x.startswith("[")]
            self.assertEqual(len(lines), 1, said.getvalue())
            self.assertFalse((self.folder / "out.pt").exists())
        return status, said.getvalue()

    def refused(self, source, status: int, *words: str) -> None:
        found, said = self.run_exporter(source)
        self.assertEqual(found, status, said)
        for word in words:
            self.assertIn(word, said)

    # Tensors -------------------------------------------------------------------------------------

    def test_a_whole_checkpoint_is_exported_and_masks_and_a_tied_head_may_lie_in_it(self):
        path = self.gpt2()
        self.edit(path, lambda s: s | {
            "h.0.attn.bias": torch.ones(1, 1, 96, 96),
            "lm_head.weight": s["transformer.wte.weight"].clone(),
        })
        self.assertEqual(self.run_exporter(path)[0], 0)

    def test_a_wrappers_prefix_is_refused_by_name(self):
        for prefix in ("module.", "_orig_mod.", "0.auto_model."):
            path = self.gpt2(prefix)
            self.edit(path, lambda s: {prefix + n: t for n, t in s.items()})
            self.refused(path, 3, prefix)

    def test_what_the_checkpoint_lacks_is_named(self):
        for name in ("transformer.h.1.mlp.c_fc.weight", "transformer.h.0.ln_1.bias",
                     "transformer.wte.weight", "transformer.ln_f.weight"):
            path = self.gpt2(name)
            self.edit(path, lambda s: {n: t for n, t in s.items() if n != name})
            self.refused(path, 3, name.removeprefix("transformer."))

    def test_what_the_network_has_no_use_for_is_named(self):
        extra = {
            "transformer.h.2.ln_1.weight": torch.ones(32),  # a layer more than config.json says
            "transformer.h.0.attn.c_attn.lora_A": torch.ones(2, 32),
            "lm_head.bias": torch.ones(300),
        }
        for name, tensor in extra.items():
            path = self.gpt2(name)
            self.edit(path, lambda s: s | {name: tensor})
            self.refused(path, 2, name)

    def test_a_config_of_another_size_is_refused(self):
        for key, value in {"n_layer": 3, "n_layer ": 1, "n_embd": 64, "n_positions": 128}.items():
            path = self.gpt2(f"{key}{value}")
            config = json.loads((path / "config.json").read_text())
            config[key.strip()] = value
            (path / "config.json").write_text(json.dumps(config))
            status, said = self.run_exporter(path)
            self.assertIn(status, (2, 3), said)

    def test_an_adapter_or_a_missing_shard_is_refused(self):
        path = self.gpt2("adapter")
        (path / "adapter_model.safetensors").write_bytes(b"")
        self.refused(path, 2, "adapter_model.safetensors")
        path = self.gpt2("shards")
        state = load_file(path / "model.safetensors")
        (path / "model.safetensors").unlink()
        names = sorted(state)
        half = {n: state[n] for n in names[:9]}
        save_file(half, path / "model-1.safetensors", metadata={"format": "pt"})
        index = {n: f"model-{1 if n in half else 2}.safetensors" for n in names}
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
        self.refused(path, 3, "model-2.safetensors")
        save_file({n: state[n] for n in names[9:-1]}, path / "model-2.safetensors",
                  metadata={"format": "pt"})
        self.refused(path, 3, names[-1])

    # GGUF ----------------------------------------------------------------------------------------

    def gguf(self, name: str, extra=None, drop=(), add=None, **settings) -> Path:
        bpe = self.folder / "bpe"
        if not bpe.exists():
            bpe.mkdir()
            byte_bpe(bpe, 300)
        ids = json.loads((bpe / "vocab.json").read_text())
        config = transformers.LlamaConfig(**{
            "vocab_size": len(ids), "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 96, "bos_token_id": 0, "eos_token_id": 0,
            "tie_word_embeddings": True, "initializer_range": 0.3} | settings)
        torch.manual_seed(2)
        state = {n: t.numpy() for n, t in transformers.LlamaForCausalLM(config).state_dict().items()}
        path = self.folder / f"{name}.gguf"
        writer = gguf.GGUFWriter(str(path), "llama")
        writer.add_block_count(2)
        writer.add_context_length(96)
        writer.add_embedding_length(64)
        writer.add_feed_forward_length(96)
        writer.add_head_count(4)
        writer.add_head_count_kv(2)
        writer.add_rope_freq_base(10000.0)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_vocab_size(len(ids))
        writer.add_rope_dimension_count(16)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(sorted(ids, key=ids.get))
        writer.add_token_types([3] + [1] * (len(ids) - 1))
        merges = (bpe / "merges.txt").read_text().splitlines()
        writer.add_token_merges([m for m in merges if not m.startswith("#version")])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
        if extra:
            extra(writer)

        def permuted(values: np.ndarray, heads: int) -> np.ndarray:
            shape = values.shape
            return values.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)

        tensors = {"token_embd.weight": state["model.embed_tokens.weight"],
                   "output_norm.weight": state["model.norm.weight"]}
        for i in range(2):
            here, there = f"model.layers.{i}.", f"blk.{i}."
            for kind, heads in (("q", 4), ("k", 2), ("v", 0)):
                values = state[f"{here}self_attn.{kind}_proj.weight"]
                tensors[f"{there}attn_{kind}.weight"] = permuted(values, heads) if heads else values
            for ours, theirs in (("attn_output", "self_attn.o_proj"), ("attn_norm", "input_layernorm"),
                                 ("ffn_norm", "post_attention_layernorm"), ("ffn_gate", "mlp.gate_proj"),
                                 ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj")):
                tensors[f"{there}{ours}.weight"] = state[f"{here}{theirs}.weight"]
        tensors |= add or {}
        for name, values in tensors.items():
            if name not in drop:
                writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def test_a_whole_gguf_file_is_exported(self):
        status, said = self.run_exporter(self.gguf("plain"))
        self.assertEqual(status, 0, said)

    def test_what_a_gguf_file_lacks_or_has_beyond_is_named(self):
        self.refused(self.gguf("drop", drop=("blk.1.ffn_down.weight",)), 3, "mlp.down_proj")
        for name, size in {"rope_freqs.weight": 8, "blk.0.attn_q.bias": 64, "blk.1.attn_v.bias": 32,
                           "blk.2.attn_norm.weight": 64}.items():
            path = self.gguf(name, add={name: np.full(size, 2, np.float32)})
            status, said = self.run_exporter(path)
            self.assertIn(status, (2, 3), said)
            self.assertRegex(said, r"rope_freqs|q_proj.bias|v_proj.bias|layers.2|blk.2")

    def test_a_gguf_key_that_changes_arithmetic_is_refused_by_name(self):
        linear = gguf.RopeScalingType.LINEAR
        for word, extra in {
            "rope.scaling": lambda w: (w.add_rope_scaling_type(linear), w.add_rope_scaling_factor(4.0)),
            "split": lambda w: w.add_uint16("split.count", 2),
            "llama.logit_scale": lambda w: w.add_logit_scale(2.0),
            "llama.attention.sliding_window": lambda w: w.add_sliding_window(32),
            "llama.attention.key_length": lambda w: w.add_key_length(32),
        }.items():
            status, said = self.run_exporter(self.gguf(word, extra=extra))
            self.assertIn(status, (2, 3), said)
            self.assertIn("parts" if word == "split" else word, said)

    # Encoders ------------------------------------------------------------------------------------

    def bert(self, name: str, pooling: dict | None = None, modules=("Transformer", "Pooling")) -> Path:
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

    def test_mean_and_cls_are_pooled_as_the_folder_says(self):
        found = {}
        for name, pooling in {
            "mean": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
            "cls": {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
            "new": {"word_embedding_dimension": 48, "pooling_mode": "cls"},
            "none": None,
        }.items():
            path = self.bert(name, pooling)
            status, said = self.run_exporter(path)
            self.assertEqual(status, 0, said)
            archive = torch.jit.load(str(self.folder / "out.pt"))
            archive.prepare(False)
            ids = torch.tensor([2, 10, 11, 12, 3])
            hidden = transformers.BertModel.from_pretrained(path).eval()(ids[None]).last_hidden_state[0]
            wanted = hidden[0] if name in ("cls", "new") else hidden.mean(0)
            with torch.no_grad():
                found[name] = archive(ids)
            torch.testing.assert_close(found[name], torch.nn.functional.normalize(wanted, dim=0),
                                       atol=1e-5, rtol=0)
            (self.folder / "out.pt").unlink()
        self.assertGreater((found["mean"] - found["cls"]).abs().max(), 0.01)

    def test_other_poolings_are_refused_by_name(self):
        for mode in ("max_tokens", "weightedmean_tokens", "lasttoken", "mean_sqrt_len_tokens"):
            self.refused(self.bert(mode, {f"pooling_mode_{mode}": True}), 2, mode)
        both = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
        self.refused(self.bert("both", both), 2, "cls_token and mean_tokens")
        self.refused(self.bert("new", {"pooling_mode": "max"}), 2, "max")
        torn = self.bert("torn", {"pooling_mode": "mean"})
        (torn / "modules.json").write_text("[{")
        self.refused(torn, 3, "modules.json")
        dense = self.bert("dense", {"pooling_mode": "mean"}, ("Transformer", "Pooling", "Dense"))
        self.refused(dense, 2, "Dense")

    # Tokenizers ----------------------------------------------------------------------------------

    def add_tokens(self, path: Path, *texts: str, vocab: int = 300) -> None:
        decoder = {
            str(vocab + i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                             "single_word": False, "special": True} for i, t in enumerate(texts)
        }
        (path / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": decoder}))

    def test_added_tokens_have_the_ids_that_the_files_give_whatever_the_hash_seed(self):
        path = self.gpt2(vocab_size=304)
        self.add_tokens(path, "<pad>", "<user>", "<bot>", "<end>")
        code = (f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); from kvr_export import tokenizer, families; "
                f"print(tokenizer.load({str(path)!r}, families.FAMILIES['gpt2']).encode('<user>a<pad><end><bot>'))")
        found = {
            subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed},
                           capture_output=True, text=True, check=True).stdout
            for seed in ("1", "2", "3")
        }
        letter = json.loads((path / "vocab.json").read_text())["a"]
        self.assertEqual(found, {f"[301, {letter}, 300, 303, 302]\n"})

    def test_added_tokens_json_counts(self):
        path = self.gpt2(vocab_size=302)
        (path / "added_tokens.json").write_text(json.dumps({"<two>": 301, "<one>": 300}))
        words = tokenizer.load(path, FAMILIES["gpt2"])
        self.assertEqual(words.encode("<one><two>"), [300, 301])
        theirs = transformers.AutoTokenizer.from_pretrained(path)("x<two> y<one>")["input_ids"]
        self.assertEqual(words.encode("x<two> y<one>"), theirs)

    def test_tokens_beside_a_sentencepiece_model_are_cut_out_first(self):
        import sentencepiece
        from make_tiny_models import TEXT

        path = self.folder / "llama"
        path.mkdir()
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT[:2]), model_writer=written, vocab_size=120, model_type="bpe",
            character_coverage=1.0, minloglevel=2, byte_fallback=False)
        (path / "tokenizer.model").write_bytes(written.getvalue())
        (path / "added_tokens.json").write_text(json.dumps({"<user>": 121, "<pad>": 120}))
        words = tokenizer.load(path, FAMILIES["llama"])
        self.assertEqual(words.spec["vocab_size"], 122)
        plain = words.encode("cargo")
        self.assertEqual(words.encode("<user>cargo<pad>"), [plain[0], 121, *plain[1:], 120])
        (path / "added_tokens.json").write_text(json.dumps({"<user>": 125}))
        with self.assertRaisesRegex(ValueError, "gap"):
            tokenizer.load(path, FAMILIES["llama"])

    def test_settings_of_the_tokenizer_are_applied_or_refused(self):
        for setting in ("add_prefix_space", "add_bos_token"):
            path = self.gpt2(setting)
            (path / "tokenizer_config.json").write_text(
                json.dumps({"tokenizer_class": "GPT2Tokenizer", setting: True}))
            status, said = self.run_exporter(path)
            if status:
                self.assertIn(setting, said)
                continue
            words = tokenizer.load(path, FAMILIES["gpt2"])
            theirs = transformers.AutoTokenizer.from_pretrained(path)("one two")["input_ids"]
            self.assertEqual(words.encode("one two"), theirs)
            (self.folder / "out.pt").unlink()

    def test_a_token_beyond_the_embedding_is_refused(self):
        path = self.gpt2()
        self.add_tokens(path, "[PAD]")
        self.refused(path, 3, "301", "300")

    # Templates and generation settings -----------------------------------------------------------

    def test_all_ids_that_end_a_text_are_kept_and_penalties_refuse_nothing(self):
        path = self.gpt2()
        (path / "generation_config.json").write_text(json.dumps(
            {"eos_token_id": [0, 13], "repetition_penalty": 1.7, "num_beams": 4, "do_sample": True}))
        status, said = self.run_exporter(path)
        self.assertEqual(status, 0, said)
        extra = {"metadata.json": ""}
        torch.jit.load(str(self.folder / "out.pt"), _extra_files=extra)
        self.assertEqual(json.loads(extra["metadata.json"])["eos_ids"], [0, 13])

    def test_a_bad_chat_template_is_left_out_with_a_warning(self):
        for i, template in enumerate((
            "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
            "{{ messages[9].content }}", "{% for m in messages %}", "{{ strftime_now('%Y') }}",
        )):
            path = self.gpt2(f"t{i}")
            (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
            status, said = self.run_exporter(path)
            self.assertEqual(status, 0, said)
            self.assertIn("warning: the chat template is left out", said)
            (self.folder / "out.pt").unlink()

    def test_a_template_that_writes_the_beginning_of_text_gets_one(self):
        text = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
        spec = tokenizer.reduce_template(text, "<s>", "</s>", adds_bos=True)
        self.assertEqual((spec["begin"], spec["strip"]), ("<s>", "<s>"))
        self.assertEqual(tokenizer.reduce_template(text, "<s>", "</s>")["strip"], "")

    # Files ---------------------------------------------------------------------------------------

    def test_a_damaged_or_foreign_file_is_named_in_one_line(self):
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
        for name, contents, status in (
            ("model.safetensors", pointer, 3), ("model.safetensors", "", 3),
            ("model.safetensors", "x" * 5000, 3), ("config.json", pointer, 3),
            ("config.json", "{", 3), ("config.json", "[]", 3), ("config.json", "[" * 100000, 3),
            ("vocab.json", "{", 3), ("merges.txt", pointer, 3), ("tokenizer_config.json", "{", 3),
        ):
            with self.subTest(name=name, contents=contents[:20]):
                path = self.gpt2(f"f{len(list(self.folder.iterdir()))}")
                (path / name).write_text(contents)
                self.refused(path, status, path.name)
        whole = self.gguf("whole").read_bytes()
        for part in (0, 5000, len(whole) * 2 // 3):
            (self.folder / "cut.gguf").write_bytes(whole[:part])
            self.refused(self.folder / "cut.gguf", 3, "cut.gguf")
        (self.folder / "cut.gguf").write_text(pointer)
        self.refused(self.folder / "cut.gguf", 3, "LFS")

    def test_quantized_weights_short_contexts_and_absent_models_are_refused(self):
        path = self.gpt2("quantized")
        config = json.loads((path / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
        (path / "config.json").write_text(json.dumps(config))
        self.refused(path, 2, "quantized")
        self.refused(self.gpt2("short", n_positions=32), 2, "32 tokens")
        self.refused(self.folder / "absent", 2, "absent")
        path = self.bert("null", {"pooling_mode": "mean"})
        (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": None}))
        self.assertEqual(self.run_exporter(path)[0], 0)

    def test_a_hub_id_needs_no_owner(self):
        calls = []
        import huggingface_hub

        class Api:
            def model_info(self, hub_id, **_):
                calls.append(hub_id)
                raise OSError("no network in tests")

        before, huggingface_hub.HfApi = huggingface_hub.HfApi, Api
        try:
            for name in ("gpt2", "microsoft/DialoGPT-medium"):
                with self.assertRaises(sources.Refused):
                    sources.download(name)
        finally:
            huggingface_hub.HfApi = before
        self.assertEqual(calls, ["gpt2", "microsoft/DialoGPT-medium"])


if __name__ == "__main__":
    unittest.main()
