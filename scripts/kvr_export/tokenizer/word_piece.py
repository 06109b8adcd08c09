"""WordPiece, the tokenizer of BERT."""

import unicodedata
from functools import cache
from typing import Callable

from tokenizers import Tokenizer, normalizers, pre_tokenizers

from .added import special_tokens, split
from .characters import every_character, ranges
from .words import expect


def wordpiece(tokenizer: Tokenizer, config: dict) -> tuple[dict, bytes]:
    model, normalizer = config["model"], config["normalizer"] or {}
    expect(normalizer.get("type"), "BertNormalizer", "normalizer")
    expect(normalizer["clean_text"], True, "normalizer.clean_text")
    expect((config["pre_tokenizer"] or {}).get("type"), "BertPreTokenizer", "pre_tokenizer")
    expect(model["continuing_subword_prefix"], "##", "model.continuing_subword_prefix")
    special = special_tokens(config)
    vocabulary = {i: t for t, i in tokenizer.get_vocab(with_added_tokens=True).items()}
    if sorted(vocabulary) != list(range(len(vocabulary))):
        raise ValueError(f"tokenizer.json: ids are not 0 to {len(vocabulary) - 1} without gaps")
    if any("\n" in t for t in vocabulary.values()):
        raise ValueError("the vocabulary has a piece with a line break in it: not supported")
    around = tokenizer.encode("").ids
    if len(around) != 2:
        raise ValueError(f"the ids {around} are put around a text, expected [CLS] and [SEP]")
    lowercase, strip = normalizer["lowercase"], normalizer["strip_accents"]
    spec = {
        "kind": "wordpiece", "vocab_size": len(vocabulary), "special": special,
        "unknown_id": tokenizer.token_to_id(model["unk_token"]), "cls_id": around[0],
        "sep_id": around[1], "lowercase": lowercase,
        "strip_accents": lowercase if strip is None else strip,
        "split_cjk": normalizer["handle_chinese_chars"],
        "max_word_chars": model["max_input_chars_per_word"],
        "classes": {k: [c for r in ranges(v) for c in r] for k, v in _bert_classes().items()},
    }
    return spec, "\n".join(t for _, t in sorted(vocabulary.items())).encode()


@cache
def _bert_classes() -> dict[str, list[int]]:
    def normalize(**on):
        off = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
        return normalizers.BertNormalizer(**dict.fromkeys(off, False) | on).normalize_str

    clean, strip = normalize(clean_text=True), normalize(strip_accents=True)
    cjk = normalize(handle_chinese_chars=True)
    cut = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    classes: dict[str, list[int]] = {
        "control": [], "space": [], "mark": [], "punctuation": [], "cjk": []
    }
    for c in every_character():
        if clean(c) == "":
            classes["control"].append(ord(c))
        elif clean(c) == " ":
            classes["space"].append(ord(c))
        if strip(c) == "":
            classes["mark"].append(ord(c))
        if len(cut(f"a{c}a")) == 3:
            classes["punctuation"].append(ord(c))
        if cjk(c) == f" {c} ":
            classes["cjk"].append(ord(c))
    return classes


def wordpiece_mirror(spec: dict, model: bytes) -> Callable[[str], list[int]]:
    ids_of = {t: i for i, t in enumerate(model.decode().split("\n"))}

    def members(name: str) -> set[str]:
        bounds = spec["classes"][name]
        return {chr(c) for a, b in zip(bounds[::2], bounds[1::2]) for c in range(a, b + 1)}

    control, space, mark, punctuation, cjk = map(members, spec["classes"])

    def word(text: str) -> list[int]:
        ids, start = [], 0
        while start < len(text) <= spec["max_word_chars"]:
            prefix = "##" if start else ""
            ends = range(len(text), start, -1)
            end = next((e for e in ends if prefix + text[start:e] in ids_of), None)
            if end is None:
                return [spec["unknown_id"]]
            ids.append(ids_of[prefix + text[start:end]])
            start = end
        return ids or [spec["unknown_id"]]

    def encode(text: str) -> list[int]:
        ids = [spec["cls_id"]]
        for stretch, number in split(spec, text):
            if number is not None:
                ids.append(number)
                continue
            text = "".join(
                " " if c in space else f" {c} " if spec["split_cjk"] and c in cjk else c
                for c in stretch if c not in control
            )
            if spec["strip_accents"]:
                text = "".join(c for c in unicodedata.normalize("NFD", text) if c not in mark)
            if spec["lowercase"]:
                text = "".join(c.lower() for c in text)
            text = "".join(f" {c} " if c in punctuation else c for c in text)
            for piece in filter(None, text.split(" ")):
                ids += word(piece)
        return ids + [spec["sep_id"]]

    return encode
