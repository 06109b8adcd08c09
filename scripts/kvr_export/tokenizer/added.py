"""Tokens that are found in a text before anything else, and what is put before a text."""

import json
from pathlib import Path

import regex

from .. import files
from ..refused import Refused
from .characters import character_class, for_python, matching


def special_tokens(config: dict) -> list[dict]:
    tokens = config["added_tokens"]
    for t in tokens:
        if t["single_word"]:
            raise ValueError(f"tokenizer.json: {t['content']!r} is single_word: not supported")
    # Tokens found before and after normalization are two passes; here there is one, which finds the
    # same where there is no normalizer and no two tokens can share a character of a text.
    first, second = ([t["content"] for t in tokens if t["normalized"] == n] for n in (False, True))
    for a in first:
        for b in second:
            apart = a not in b and b not in a and not any(
                x[-n:] == y[:n] for x, y in ((a, b), (b, a)) for n in range(1, min(len(a), len(b)))
            )
            if config["normalizer"] is not None or not apart:
                raise ValueError(
                    f"added tokens {a!r} and {b!r}, one of them normalized: not supported"
                )
    names = ("id", "lstrip", "rstrip")
    return [{"text": t["content"], **{n: t[n] for n in names}} for t in tokens]


def listed_tokens(path: Path, settings: dict) -> list[dict]:
    """Tokens that tokenizer_config.json and added_tokens.json list, by id."""
    found = {}
    if (path / "added_tokens.json").is_file():
        for text, number in files.read_json(path / "added_tokens.json").items():
            found[number] = {"text": text, "id": number, "lstrip": False, "rstrip": False}
    for number, token in settings.get("added_tokens_decoder", {}).items():
        if token.get("single_word"):
            raise Refused(f"{path}: {token['content']!r} is single_word: not supported")
        flags = {n: bool(token.get(n)) for n in ("lstrip", "rstrip")}
        found[int(number)] = {"text": token["content"], "id": int(number), **flags}
    return [found[number] for number in sorted(found)]


def tokens_beside(path: Path, settings: dict) -> list[dict]:
    """Tokens beside tokenizer.model: those that are listed have to be all."""
    found = listed_tokens(path, settings)
    texts = {t["text"] for t in found}
    for token in settings.get("additional_special_tokens") or []:
        text = token["content"] if isinstance(token, dict) else token
        if text not in texts:
            raise Refused(f"{path}: no file says the id of the additional special token {text!r}")
    return found


def beginning(added: list[int]) -> dict:
    """What the reference puts around an empty text."""
    if len(added) > 1:
        raise ValueError(f"the tokenizer adds the ids {added} to every text; supported is one")
    return {"add_bos": bool(added), **({"bos_id": added[0]} if added else {})}


def split(spec: dict, text: str) -> list[tuple[str, int | None]]:
    """(stretch, id of a special token or None), as SpecialTokens::Split in src/text."""
    tokens = sorted(spec["special"], key=lambda t: -len(t["text"].encode()))
    if not tokens:
        return [(text, None)] if text else []
    space = for_python(character_class(matching(r"\S+")))
    found, done = [], 0
    for m in regex.finditer(
        "|".join(
            f"(?P<t{t['id']}>" + (f"[{space}]*" if t.get("lstrip") else "")
            + regex.escape(t["text"]) + (f"[{space}]*" if t.get("rstrip") else "") + ")"
            for t in tokens
        ),
        text,
    ):
        if m.start() > done:
            found.append((text[done:m.start()], None))
        found.append((m[0], int(m.lastgroup[1:])))
        done = m.end()
    return found + ([(text[done:], None)] if done < len(text) else [])
