"""Reads a model's tokenizer and writes it as kvr reads it (docs/archive_format.md)."""

from pathlib import Path

from ..family import Family
from .folder import read_folder
from .gguf_words import read_gguf
from .template import reduce_template
from .words import Words


__all__ = ["Words", "load", "reduce_template"]


def load(path: Path, family: Family) -> Words:
    """The tokenizer of a folder in the hub's layout or of a GGUF file. Throws ValueError for one
    that kvr could not reproduce."""
    path = Path(path)
    settings, words = read_gguf(path) if path.is_file() else read_folder(path, family)
    family.check_tokenizer(words.spec, path)
    if (text := settings.get("chat_template")) is None:
        text = family.chat_template
    if text is not None and not family.encoder:
        words.template = reduce_template(
            text, settings.get("bos_token"), settings.get("eos_token"), words.spec["add_bos"]
        )
    return words
