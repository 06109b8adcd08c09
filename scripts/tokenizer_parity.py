#!/usr/bin/env python3
"""Compares kvr's token ids with the reference tokenizer's, text by text. Exits with 1 on any
difference.

  scripts/tokenizer_parity.py --model models/smollm2.pt \\
      --source models/sources/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf /usr/lib/python3*/*.py

The texts: the exporter's built-in one; every Unicode code point between letters, digits and spaces;
seeded random strings (scripts, white space, emoji, digits, punctuation, special tokens, long runs);
and the files named, cut at random places.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from kvr_export import sources, tokenizer  # noqa: E402
from kvr_export.tokenizer.torture import TORTURE_TEXT  # noqa: E402

SPACES = [
    *" \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u2029\u202f\u3000", "  ", "\n\n", "\r\n", "    ",
]
JOINERS = [
    *"\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\ufe0f\u20e3\u0301\u0308\u0323\u0345\u3099\u302e",
]
WORDS = [
    "the", "The", "don't", "it's", "WE'LL", "they've", "'s", "'t", "'", "naïve", "Straße", "hello",
    "in", "ing", "return", "def", "self.", "==", "!=", "->", "://", "www", "<|", "|>", "[", "]",
    "##", "_",
    "0", "1", "42", "2024", "3.14", "１２", "½", "Ⅷ", "مرحبا", "नमस्ते", "你好", "日本語", "한국어", "שלום",
    "ёлка", "İ", "ǅ", "ẞ", "👍🏽", "👩\u200d👩\u200d👧", "🇩🇪", "🫠", "…", "—", "“", "”", ".", ",", ";", "!", "?",
]
BLOCKS = [
    (0x00, 0x7F), (0x80, 0x24F), (0x250, 0x36F), (0x370, 0x5FF), (0x600, 0xDFF), (0xE00, 0x1FFF),
    (0x2000, 0x2BFF), (0x2C00, 0x33FF), (0x4E00, 0x9FFF), (0xA000, 0xD7FF), (0xE000, 0xFFFF),
    (0x10000, 0x1BFFF), (0x1D000, 0x1FAFF), (0x20000, 0x323AF), (0xE0000, 0x10FFFF),
]


def random_text(rng: random.Random, special: list[str], length: int) -> str:
    """`length` parts drawn in one of several styles."""
    blocks = rng.sample(BLOCKS, rng.randint(1, 4))
    run = chr(rng.choice([0x61, 0x20, 0x3D, 0x0A, 0x30, 0xE9, 0x4E00, rng.randint(0x21, 0x2FF)]))
    draws = [
        lambda: chr(rng.randint(*rng.choice(blocks))),
        lambda: rng.choice(WORDS),
        lambda: rng.choice(SPACES),
        lambda: rng.choice(JOINERS),
        lambda: chr(rng.randint(0x20, 0x7E)),
        lambda: rng.choice(special),
        lambda: rng.choice(special)[: rng.randint(1, 9)],
        lambda: run * rng.choice([1, 2, 3, 7, 40, 101]),
        lambda: "".join(rng.choice("ab") for _ in range(rng.randint(1, 30))),
    ]
    weights = [rng.random() ** 2 for _ in draws]
    text = "".join(draw() for draw in (rng.choices(draws, weights)[0] for _ in range(length)))
    # A pair of surrogates can't be written as UTF-8.
    return "".join(c for c in text if not 0xD800 <= ord(c) < 0xE000)


def texts(args: argparse.Namespace, special: list[str]):
    """(kind, text) pairs."""
    yield "built-in", TORTURE_TEXT
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(points), 256):
        for form in ("a{0}b {0}", "{0}{0}1{0} ", "  {0} é{0}"):
            yield "code points", "".join(form.format(c) for c in points[start : start + 256])
    rng = random.Random(args.seed)
    left = args.random_bytes
    while left > 0:
        text = random_text(rng, special, rng.choice([1, 2, 5, 20, 100, 1000]))
        left -= len(text.encode())
        yield "random", text
    for path in args.file:
        text = path.read_text(encoding="utf-8", errors="replace")
        while text:
            length = rng.choice([10, 100, 1000, 10000])
            yield path.suffix or "file", text[:length]
            text = text[length:]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="the archive whose tokenizer is tried")
    parser.add_argument("--source", required=True, type=Path, help="what it was exported from")
    parser.add_argument("--kvr", default="build/release/kvr", help="default: build/release/kvr")
    parser.add_argument("--random-bytes", type=int, default=2_000_000, help="default 2000000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("file", nargs="*", type=Path, help="prose, code, JSON lines")
    args = parser.parse_args()

    source = sources.find(str(args.source), None, True, 0)  # of the weights nothing is asked
    words = tokenizer.load(source.path, source.family)
    everything = list(texts(args, [t["text"] for t in words.spec["special"]]))
    done = subprocess.run(
        [args.kvr, "tokenize", "--model", args.model, "--jsonl", "-"],
        input="".join(json.dumps({"text": t}) + "\n" for _, t in everything).encode(),
        stdout=subprocess.PIPE,
    )
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != len(everything):
        print(
            f"{args.kvr} tokenize: exit code {done.returncode}, {len(lines)} lines for "
            f"{len(everything)} texts", file=sys.stderr,
        )
        return 1

    rows: dict[str, list[int]] = {}
    for (kind, text), line in zip(everything, lines):
        found, expected = json.loads(line), words.reference(text)
        row = rows.setdefault(kind, [0, 0, 0, 0])
        row[0] += 1
        row[1] += len(text.encode())
        row[2] += len(expected)
        if found == expected:
            continue
        row[3] += 1
        if sum(r[3] for r in rows.values()) <= 5:
            at = next(
                (i for i, (a, b) in enumerate(zip(found, expected)) if a != b),
                min(len(found), len(expected)),
            )
            print(
                f"{kind}: at token {at} found {found[at:at + 6]}, expected {expected[at:at + 6]}, "
                f"after {words.reference_decode(expected[max(0, at - 4):at])!r}", file=sys.stderr,
            )
    rows["all"] = [sum(column) for column in zip(*rows.values())]
    print(f"{'texts of kind':16}{'texts':>10}{'bytes':>12}{'tokens':>12}{'different':>12}")
    for kind, row in rows.items():
        print(f"{kind:16}{row[0]:>10}{row[1]:>12}{row[2]:>12}{row[3]:>12}")
    return 1 if rows["all"][3] else 0


if __name__ == "__main__":
    sys.exit(main())
