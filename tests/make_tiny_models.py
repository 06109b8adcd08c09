#!/usr/bin/env python3
"""Makes the tiny seeded models that the tests run: one of each family, through each kind of folder.

Everything goes through the real exporter, so its parity checks run on each. Used by ctest as a
fixture: make_tiny_models.py FOLDER. Does nothing when the folder is as this script would make it.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
TEXT = [
    "The harbour master writes every ship into a book: its name, its cargo, and the hour it came in.",
    "def area(width, height):\n    return width * height  # in square metres\n",
    "Numbers such as 1, 22 and 4096; quotes 'like this' and \"this\"; it's what we've got.",
    "Grüße aus Köln, naïve café, 你好世界, Привет, emoji 🙂 and a tab\there.",
] * 4


def stamp() -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted([SCRIPTS / "export_model.py", *(SCRIPTS / "kvr_export").rglob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def byte_bpe(folder: Path, vocab: int) -> int:
    """Writes vocab.json and merges.txt as GPT-2's folder has them; returns the vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.model.save(str(folder))
    return tokenizer.get_vocab_size()


def word_pieces(folder: Path) -> int:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    words = sorted({w.lower() for t in TEXT for w in t.split() if w.isalpha() and w.isascii()})
    pieces = special + letters + ["##" + c for c in letters if c.isalnum()] + words
    pieces = list(dict.fromkeys(pieces))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    return len(pieces)


def export(path: Path, name: str, precision: str = "fp32", random_seed: int | None = None) -> None:
    """Archives the folder `path` as NAME.pt beside folders/; a seed is for weights made from it."""
    from kvr_export import archive, sources

    source = sources.find(str(path), name, random_seed is not None, random_seed or 0)
    archive.export(source, path.parents[1] / f"{name}.pt", precision, lambda _: None)


def write_config(path: Path, config) -> None:
    (path / "config.json").write_text(json.dumps(config.to_dict()))


def gpt2(path: Path) -> None:
    """GPT-2 as DialoGPT-medium's folder has it: a legacy pickle, vocab.json, merges.txt."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=byte_bpe(path, 400), n_positions=160, n_embd=64, n_layer=2, n_head=4,
        bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )
    write_config(path, config)
    torch.manual_seed(3)
    torch.save(GPT2LMHeadModel(config).state_dict(), path / "pytorch_model.bin")
    export(path, "tiny-gpt2")


def llama(path: Path) -> None:
    """Llama with grouped heads and an untied head, sharded safetensors; in each precision."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=byte_bpe(path, 400), max_position_embeddings=192, hidden_size=96,
        intermediate_size=160, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2,
        bos_token_id=0, eos_token_id=0, tie_word_embeddings=False, initializer_range=0.2,
    )
    torch.manual_seed(4)
    LlamaForCausalLM(config).save_pretrained(path, max_shard_size="200KB")
    export(path, "tiny-llama")
    # Of the same shape; seeded noise is not judged against fp32.
    for precision in ["bf16", "int8"]:
        export(path, f"tiny-llama-{precision}", precision, random_seed=0)


def shape(path: Path) -> None:
    """Only a config and a tokenizer: seeded weights, tied head, no grouping."""
    from transformers import LlamaConfig

    write_config(path, LlamaConfig(
        vocab_size=byte_bpe(path, 400), max_position_embeddings=128, hidden_size=64,
        intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
    ))
    export(path, "tiny-random", random_seed=7)


def padded(path: Path) -> None:
    """A network with more rows than its tokenizer has ids, as some are padded for speed."""
    from transformers import GPT2Config

    write_config(path, GPT2Config(
        vocab_size=byte_bpe(path, 400) + 400, n_positions=96, n_embd=64, n_layer=1, n_head=4,
        bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    ))
    export(path, "tiny-padded", random_seed=8)


def bert(path: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=word_pieces(path), hidden_size=48, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=96, max_position_embeddings=64,
    )
    torch.manual_seed(5)
    BertModel(config).save_pretrained(path)
    export(path, "tiny-bert")


def main() -> None:
    out = Path(sys.argv[1])
    done = out / "stamp"
    if done.exists() and done.read_text() == stamp():
        print(f"{out} is up to date")
        return
    shutil.rmtree(out, ignore_errors=True)
    sys.path.insert(0, str(SCRIPTS))
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for make in (gpt2, llama, shape, padded, bert):
        path = out / "folders" / make.__name__
        path.mkdir(parents=True)
        make(path)
    done.write_text(stamp())


if __name__ == "__main__":
    main()
