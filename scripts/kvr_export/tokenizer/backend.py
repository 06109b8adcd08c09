"""A tokenizer of the library tokenizers, which transformers' are made of, by its kind of model."""

import json

from tokenizers import Tokenizer

from .byte_bpe import byte_bpe, byte_bpe_mirror
from .word_piece import wordpiece, wordpiece_mirror
from .words import Words, words_of


def from_tokenizer(tokenizer: Tokenizer) -> Words:
    config = json.loads(tokenizer.to_str())
    kind = config["model"].get("type")
    if kind == "BPE":
        spec, model = byte_bpe(tokenizer, config)
        encode = byte_bpe_mirror(spec, model)
    elif kind == "WordPiece":
        spec, model = wordpiece(tokenizer, config)
        encode = wordpiece_mirror(spec, model)
    else:
        raise ValueError(f"tokenizer.json: found a '{kind}' model, expected BPE or WordPiece")
    return words_of(spec, model, tokenizer, encode)
