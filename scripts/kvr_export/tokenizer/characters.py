"""Character classes (letters, digits, white space, punctuation) as the reference has them.

They are asked of the reference, code point by code point, and written out as ranges: every library
has its own Unicode version.
"""

from functools import cache

import regex
from tokenizers import Regex, normalizers, pre_tokenizers

_SURROGATES = range(0xD800, 0xE000)


@cache
def every_character() -> str:
    return "".join(chr(c) for c in range(0x110000) if c not in _SURROGATES)


@cache
def matching(negated: str) -> tuple[int, ...]:
    """The code points left when `negated` is removed, by the reference's regular expressions."""
    left = normalizers.Replace(Regex(negated), "").normalize_str(every_character())
    return tuple(map(ord, left))


@cache
def _digits() -> tuple[int, ...]:
    cut = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str
    pieces = (piece for piece, _ in cut("a" + "a".join(every_character()) + "a"))
    return tuple(ord(p) for p in pieces if len(p) == 1 and p != "a")


def ranges(code_points) -> list[tuple[int, int]]:
    found: list[list[int]] = []
    for c in sorted(code_points):
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return [(a, b) for a, b in found]


def character_class(code_points) -> str:
    """The inside of a PCRE2 character class."""
    return "".join(
        rf"\x{{{a:x}}}" if a == b else rf"\x{{{a:x}}}-\x{{{b:x}}}" for a, b in ranges(code_points)
    )


def for_python(pattern: str) -> str:
    r"""PCRE2's \x{1f600} as Python's regex module writes it."""
    return regex.sub(r"\\x\{(\w+)\}", lambda m: rf"\U{int(m[1], 16):08x}", pattern)


def gpt2_pattern(digits: bool) -> str:
    r"""GPT-2's pattern (its encoder.py), with the classes written out:
    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    With `digits`, each digit first becomes a stretch of its own: so it takes no space before it,
    and white space before it counts as white space at the end."""
    letters, spaces, numbers = map(matching, (r"\P{L}+", r"\S+", r"\P{N}+"))
    if digits:
        if not set(_digits()) >= set(numbers):
            raise ValueError("the reference has numbers that are no digits: not supported")
        numbers = _digits()
    letter, space, number = map(character_class, (letters, spaces, numbers))
    if digits:
        head, end = f"[{number}]|'s|'t|'re|'ve|'m|'ll|'d| ?[{letter}]+", f"[^{space}{number}]"
    else:
        head, end = f"'s|'t|'re|'ve|'m|'ll|'d| ?[{letter}]+| ?[{number}]+", f"[^{space}]"
    return f"{head}| ?[^{space}{letter}{number}]+|[{space}]+(?!{end})|[{space}]+"
