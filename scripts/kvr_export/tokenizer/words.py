"""One model's tokenizer, as the archive has it and as the reference does it."""

from dataclasses import dataclass
from typing import Callable

from tokenizers import Tokenizer


@dataclass
class Words:
    """One model's tokenizer: as the archive has it, and as the reference does it."""

    spec: dict  # metadata["tokenizer"]
    model: bytes  # tokenizer.model
    template: dict | None  # metadata["template"]
    reference: Callable[[str], list[int]]
    reference_decode: Callable[[list[int]], str]
    encode: Callable[[str], list[int]]  # from `spec` and `model` alone, as the program does it


def words_of(spec: dict, model: bytes, tokenizer: Tokenizer, encode: Callable) -> Words:
    return Words(
        spec, model, None,
        reference=lambda text: tokenizer.encode(text).ids,
        reference_decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
        encode=encode,
    )


def expect(found, expected, where: str) -> None:
    if found != expected:
        raise ValueError(f"tokenizer.json, {where}: found {found!r}, supported is {expected!r}")
