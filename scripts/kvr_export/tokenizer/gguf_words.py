"""The tokenizer in a GGUF file."""

from pathlib import Path

from tokenizers import AddedToken, models

from .. import gguf_file
from .backend import from_tokenizer
from .byte_bpe import byte_level
from .sentence_pieces import from_sentencepiece, model_proto
from .words import Words


def read_gguf(path: Path) -> tuple[dict, Words]:
    fields = gguf_file.read(path).fields

    def get(name: str, default=None):
        field = fields.get(f"tokenizer.{name}")
        return default if field is None else field.contents()

    tokens, types = get("ggml.tokens"), get("ggml.token_type")
    if tokens is None or types is None:
        raise ValueError(f"{path}: no tokenizer.ggml.tokens and token_type in the GGUF file")

    def token(name: str) -> str | None:
        number = get(f"ggml.{name}_token_id")
        return None if number is None else tokens[number]

    settings = {
        "chat_template": get("chat_template"), "bos_token": token("bos"), "eos_token": token("eos"),
    }
    kind, pre = get("ggml.model"), get("ggml.pre")
    if kind == "llama":
        # GGUF numbers the types as SentencePiece does.
        pieces = zip(tokens, get("ggml.scores"), types)
        model = model_proto(pieces, get("ggml.add_space_prefix", True), byte_fallback=True)
        settings["add_bos_token"] = get("ggml.add_bos_token", True)
        return settings, from_sentencepiece(model, settings, None, [])
    if kind != "gpt2" or pre not in ("smollm", "gpt-2"):
        raise ValueError(
            f"{path}: the tokenizer is '{kind}' with pre-tokenizer '{pre}'; supported are 'llama', "
            "and 'gpt2' with 'smollm' or 'gpt-2'. Give the model's folder instead"
        )
    # transformers' GGUF reader builds every 'gpt2' tokenizer without the rule that each digit
    # stands alone, which SmolLM2's own tokenizer.json has (and llama.cpp's 'smollm' too): "a  2"
    # would be cut into 'a', ' ', ' 2'. So the reference is built here.
    merges = [tuple(m.split(" ")) for m in get("ggml.merges")]
    tokenizer = byte_level(
        models.BPE({t: i for i, t in enumerate(tokens)}, merges), digits=pre == "smollm"
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False) for t, kind in zip(tokens, types) if kind == 3]
    )
    if get("ggml.add_bos_token", False):
        raise ValueError(f"{path}: add_bos_token with byte-level BPE is not supported")
    return settings, from_tokenizer(tokenizer)
