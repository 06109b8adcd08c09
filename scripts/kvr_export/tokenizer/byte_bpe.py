"""Byte-level BPE as a SentencePiece model.

Byte-level BPE becomes a SentencePiece BPE model: the pieces are the tokens, a piece's score is
minus its merge's rank. SentencePiece merges any two neighbours whose concatenation is a piece,
where the reference merges only the pairs on its list. The two agree on every text if each token's
own text encodes to that one token in the reference: a state of two neighbours x y in some text is
also a state of the text xy alone (no merge crosses their outer edges), so if x + y is a token, xy
is on the list. `check_merges` checks that for the whole vocabulary.
"""

from typing import Callable

import regex
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from .added import beginning, special_tokens, split
from .characters import for_python, gpt2_pattern
from .sentence_pieces import Piece, model_proto
from .words import expect


def byte_characters() -> list[str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b if b in printable else next(others)) for b in range(256)]


def byte_level(model: models.BPE, digits: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = byte_level
    if digits:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), byte_level]
        )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_bpe(tokenizer: Tokenizer, config: dict) -> tuple[dict, bytes]:
    model = config["model"]
    expect(config["normalizer"], None, "normalizer")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                 "ignore_merges"):
        expect(model.get(name) or None, None, f"model.{name}")
    steps = config["pre_tokenizer"]
    steps = steps["pretokenizers"] if steps and steps["type"] == "Sequence" else [steps]
    digits = len(steps) == 2 and steps[0] == {"type": "Digits", "individual_digits": True}
    last = steps[-1] or {}
    if len(steps) != 1 + digits or last.get("type") != "ByteLevel":
        raise ValueError(
            f"tokenizer.json, pre_tokenizer: found {steps}, supported is ByteLevel, alone or after "
            "Digits(individual_digits)"
        )
    expect(last.get("use_regex", True), True, "pre_tokenizer.use_regex")
    expect(last.get("add_prefix_space"), False, "pre_tokenizer.add_prefix_space")

    special = special_tokens(config)
    if not special:
        raise ValueError("tokenizer.json: no special token, expected at least the end of text")
    vocabulary = {i: t for t, i in tokenizer.get_vocab(with_added_tokens=True).items()}
    if sorted(vocabulary) != list(range(len(vocabulary))):
        raise ValueError(f"tokenizer.json: ids are not 0 to {len(vocabulary) - 1} without gaps")
    if model.get("unk_token") and not set(byte_characters()) <= set(vocabulary.values()):
        raise ValueError("tokenizer.json: an unknown token with bytes missing: not supported")
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    rank = {}
    for i, (left, right) in enumerate(merges):
        if left + right in rank:
            raise ValueError(f"tokenizer.json: {left + right!r} has two merges: not supported")
        rank[left + right] = i
    special_ids = {t["id"] for t in special}
    check_merges(tokenizer, {i: t for i, t in vocabulary.items() if i not in special_ids})

    # SentencePiece wants exactly one unknown piece; no text comes to it, so a special one will do.
    unknown = special[0]["id"]
    pieces = [
        (text, 0.0, Piece.UNKNOWN if i == unknown else Piece.CONTROL) if i in special_ids
        else (text, -float(rank.get(text, 0)), Piece.NORMAL)
        for i, text in sorted(vocabulary.items())
    ]
    spec = {
        "kind": "byte_bpe", "vocab_size": len(vocabulary), "special": special,
        **beginning(tokenizer.encode("").ids), "pattern": gpt2_pattern(digits),
    }
    return spec, model_proto(pieces, dummy_prefix=False, byte_fallback=False)


def check_merges(tokenizer: Tokenizer, vocabulary: dict[int, str]) -> None:
    """See the top of this file. Throws ValueError for a token that is not its own encoding."""
    for number, text in vocabulary.items():
        if [t.id for t in tokenizer.model.tokenize(text)] != [number]:
            raise ValueError(
                f"token {number} ({text!r}) is not what the reference makes of its own text: such "
                "a vocabulary is not supported"
            )


def byte_bpe_mirror(spec: dict, model: bytes) -> Callable[[str], list[int]]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    characters = byte_characters()
    present = [processor.piece_to_id(c) != processor.unk_id() for c in characters]
    pattern = regex.compile(for_python(spec["pattern"]))

    def encode(text: str) -> list[int]:
        ids = [spec["bos_id"]] if spec["add_bos"] else []
        for stretch, number in split(spec, text):
            if number is not None:
                ids.append(number)
                continue
            for cut in pattern.findall(stretch):
                ids += processor.encode("".join(characters[b] for b in cut.encode() if present[b]))
        return ids

    return encode
