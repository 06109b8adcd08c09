"""Reads a model's tokenizer and writes it as kvr reads it (docs/archive_format.md).

Byte-level BPE becomes a SentencePiece BPE model: the pieces are the tokens, a piece's score is
minus its merge's rank. SentencePiece merges any two neighbours whose concatenation is a piece,
where the reference merges only the pairs on its list. The two agree on every text if each token's
own text encodes to that one token in the reference: a state of two neighbours x y in some text is
also a state of the text xy alone (no merge crosses their outer edges), so if x + y is a token, xy
is on the list. `check_merges` checks that for the whole vocabulary.

Character classes (letters, digits, white space, punctuation) are asked of the reference, code point
by code point, and written out as ranges: every library has its own Unicode version.
"""

import json
import struct
import sys
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Callable

import jinja2.sandbox
import regex
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from . import checkpoint
from .refused import Damaged, Refused, one_line

TORTURE_TEXT = (
    "The quick brown fox doesn't jump; it's they'll, we've, I'm, you'd, you're. DON'T'S 'tis\u2019s\n"
    "Grüße aus Köln, naïve café, Ångström, ﬁn, ẞ, İstanbul ΑΣΣ ОЛЯ ёлка ὈΔΥΣΣΕΎΣ שָׁלוֹם مرحبًا ١٢٣\n"
    "हिन्दी में नमस्ते १२३ ไทย한국어조선말 你好，世界。𠀀𪛖 日本語テキスト ｶﾞｶﾞ ǅ Ⅷ ⅷ ½ ² ௧௨ 𝟘𝟙 𝔘𝔫𝔦\n"
    "e\u0301 a\u0323\u0302 Z\u0351\u036b\u0343a\u034fl\u0334go \u1e9b\u0323 \ufeffBOM \u00adsoft\u200bzero\u200dwidth\u2060\n"
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇩🇪🇫🇷 👍🏽 ☺︎☺️ 🫠 \U0001f9ff\U000e0067\U000f0000\U0010ffff\n"
    "1234567890 3.14159 1,000,000 2024-01-31T12:34:56Z 0xDEADBEEF 1e-9 a1b22c333 v2 ４２\n"
    "\ttab\t\ttabs  two   three    four     \n\n\n  \r\n \u00a0nbsp\u2003em\u3000ideographic\u2028line\x0b\x0c\x85\u180e end   \n"
    "def f(x: int = 0) -> str:\n    return f\"{x!r:>{10}}\"  # naïve\n\tif (a&&b||!c) { s += '\\n'; }\n"
    "https://example.org/a?b=c%20d#e __init__ snake_case camelCase $$$ !!! ... ?!? «»„“ — … ₿ ※\n"
    "nul\x00 bell\x07 esc\x1b[0m ctl\x01\x04\x06\x13\x14\x16\x1d del\x7f c1\x80\x9f \ufffd \uffff\n"
    "<|endoftext|><|im_start|>user\nhi<|im_end|>\n<|im_start|> <|im_end |> <s>a</s> b<unk> [CLS] x [SEP][MASK] [mask] [UNK][PAD]<repo_name>\n"
    + "a" * 300 + " " * 50 + "=" * 120 + "é" * 101 + "." * 70 + "\n" * 9 + "ha" * 80 + "'" * 9 + " ▁ ▁▁"
)

_SURROGATES = range(0xD800, 0xE000)


@dataclass
class Words:
    """One model's tokenizer: as the archive has it, and as the reference does it."""

    spec: dict  # metadata["tokenizer"]
    model: bytes  # tokenizer.model
    template: dict | None  # metadata["template"]
    reference: Callable[[str], list[int]]
    reference_decode: Callable[[list[int]], str]
    encode: Callable[[str], list[int]]  # from `spec` and `model` alone, as the program does it


def load(path: Path, family: str) -> Words:
    """The tokenizer of a folder in the hub's layout or of a GGUF file. Throws ValueError for one
    that kvr could not reproduce."""
    path = Path(path)
    settings, words = _read_gguf(path) if path.is_file() else _read_folder(path)
    text = settings.get("chat_template")
    if text is None and family == "gpt2":
        # DialoGPT's turns, and GPT-2's documents, end in the end-of-text token.
        text = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"
    if text is not None and family != "bert":
        words.template = reduce_template(
            text, settings.get("bos_token"), settings.get("eos_token"), words.spec["add_bos"]
        )
    return words


def _read_folder(path: Path) -> tuple[dict, Words]:
    settings = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (path / name).is_file():
            settings |= checkpoint.read_json(path / name)
    for name in ("bos_token", "eos_token"):
        if isinstance(settings.get(name), dict):
            settings[name] = settings[name]["content"]
    if (path / "chat_template.jinja").is_file():
        settings["chat_template"] = (path / "chat_template.jinja").read_text(encoding="utf-8")
    elif isinstance(named := settings.get("chat_template"), list):
        settings["chat_template"] = {t["name"]: t["template"] for t in named}.get("default")

    tokenizer = None
    if (path / "tokenizer.json").is_file():
        checkpoint.read_json(path / "tokenizer.json")  # its errors name the file
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
    if (path / "tokenizer.model").is_file():
        model = (path / "tokenizer.model").read_bytes()
        checkpoint.refuse_pointer(path / "tokenizer.model")
        added = _added_tokens(path, settings) if tokenizer is None else []
        return settings, _sentencepiece(model, settings, tokenizer, added)
    if tokenizer is None and (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
        for name in ("bos_token", "eos_token"):
            settings.setdefault(name, "<|endoftext|>")
        # Which files add tokens, and in which order, is transformers' to say.
        tokenizer = _of_transformers(path)
    if tokenizer is None and (path / "vocab.txt").is_file():
        tokenizer = _of_transformers(path)
    if tokenizer is None:
        raise ValueError(
            f"{path}: no tokenizer found; expected tokenizer.json, tokenizer.model, vocab.json "
            "with merges.txt, or vocab.txt"
        )
    return settings, _from_tokenizer(tokenizer)


def _added_tokens(path: Path, settings: dict) -> list[dict]:
    """Tokens beside tokenizer.model: tokenizer_config.json's and added_tokens.json's."""
    found = {}
    if (path / "added_tokens.json").is_file():
        for text, number in checkpoint.read_json(path / "added_tokens.json").items():
            found[number] = {"text": text, "id": number, "lstrip": False, "rstrip": False}
    for number, token in settings.get("added_tokens_decoder", {}).items():
        if token.get("single_word"):
            raise Refused(f"{path}: {token['content']!r} is single_word: not supported")
        flags = {n: bool(token.get(n)) for n in ("lstrip", "rstrip")}
        found[int(number)] = {"text": token["content"], "id": int(number), **flags}
    texts = {t["text"] for t in found.values()}
    for token in settings.get("additional_special_tokens") or []:
        text = token["content"] if isinstance(token, dict) else token
        if text not in texts:
            raise Refused(f"{path}: no file says the id of the additional special token {text!r}")
    return [found[number] for number in sorted(found)]


def _of_transformers(path: Path) -> Tokenizer:
    import transformers

    # By the files, not by config.json: a Llama may have GPT-2's kind of tokenizer.
    byte_level = (path / "vocab.json").is_file()
    kind = transformers.GPT2Tokenizer if byte_level else transformers.BertTokenizer
    try:
        return kind.from_pretrained(path, local_files_only=True).backend_tokenizer
    except Exception as error:  # of many kinds, by which file is wrong
        raise Damaged(f"{path}: the tokenizer can't be read: {one_line(error, 200)}") from error


def _read_gguf(path: Path) -> tuple[dict, Words]:
    fields = checkpoint.read_gguf(path).fields

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
        model = _model_proto(pieces, get("ggml.add_space_prefix", True), byte_fallback=True)
        settings["add_bos_token"] = get("ggml.add_bos_token", True)
        return settings, _sentencepiece(model, settings, None, [])
    if kind != "gpt2" or pre not in ("smollm", "gpt-2"):
        raise ValueError(
            f"{path}: the tokenizer is '{kind}' with pre-tokenizer '{pre}'; supported are 'llama', "
            "and 'gpt2' with 'smollm' or 'gpt-2'. Give the model's folder instead"
        )
    # transformers' GGUF reader builds every 'gpt2' tokenizer without the rule that each digit
    # stands alone, which SmolLM2's own tokenizer.json has (and llama.cpp's 'smollm' too): "a  2"
    # would be cut into 'a', ' ', ' 2'. So the reference is built here.
    merges = [tuple(m.split(" ")) for m in get("ggml.merges")]
    tokenizer = _byte_level(
        models.BPE({t: i for i, t in enumerate(tokens)}, merges), digits=pre == "smollm"
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False) for t, kind in zip(tokens, types) if kind == 3]
    )
    if get("ggml.add_bos_token", False):
        raise ValueError(f"{path}: add_bos_token with byte-level BPE is not supported")
    return settings, _from_tokenizer(tokenizer)


def _byte_level(model: models.BPE, digits: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = byte_level
    if digits:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), byte_level]
        )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _from_tokenizer(tokenizer: Tokenizer) -> Words:
    config = json.loads(tokenizer.to_str())
    kind = config["model"].get("type")
    if kind == "BPE":
        spec, model = _byte_bpe(tokenizer, config)
        encode = _byte_bpe_mirror(spec, model)
    elif kind == "WordPiece":
        spec, model = _wordpiece(tokenizer, config)
        encode = _wordpiece_mirror(spec, model)
    else:
        raise ValueError(f"tokenizer.json: found a '{kind}' model, expected BPE or WordPiece")
    return _words(spec, model, tokenizer, encode)


def _words(spec: dict, model: bytes, tokenizer: Tokenizer, encode: Callable) -> Words:
    return Words(
        spec, model, None,
        reference=lambda text: tokenizer.encode(text).ids,
        reference_decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
        encode=encode,
    )


def _expect(found, expected, where: str) -> None:
    if found != expected:
        raise ValueError(f"tokenizer.json, {where}: found {found!r}, supported is {expected!r}")


# Character classes ------------------------------------------------------------------------------


@cache
def _every_character() -> str:
    return "".join(chr(c) for c in range(0x110000) if c not in _SURROGATES)


@cache
def _matching(negated: str) -> tuple[int, ...]:
    """The code points left when `negated` is removed, by the reference's regular expressions."""
    left = normalizers.Replace(Regex(negated), "").normalize_str(_every_character())
    return tuple(map(ord, left))


@cache
def _digits() -> tuple[int, ...]:
    cut = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str
    pieces = (piece for piece, _ in cut("a" + "a".join(_every_character()) + "a"))
    return tuple(ord(p) for p in pieces if len(p) == 1 and p != "a")


def _ranges(code_points) -> list[tuple[int, int]]:
    found: list[list[int]] = []
    for c in sorted(code_points):
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return [(a, b) for a, b in found]


def _class(code_points) -> str:
    """The inside of a PCRE2 character class."""
    return "".join(
        rf"\x{{{a:x}}}" if a == b else rf"\x{{{a:x}}}-\x{{{b:x}}}" for a, b in _ranges(code_points)
    )


def _for_python(pattern: str) -> str:
    r"""PCRE2's \x{1f600} as Python's regex module writes it."""
    return regex.sub(r"\\x\{(\w+)\}", lambda m: rf"\U{int(m[1], 16):08x}", pattern)


def _gpt2_pattern(digits: bool) -> str:
    r"""GPT-2's pattern (its encoder.py), with the classes written out:
    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    With `digits`, each digit first becomes a stretch of its own: so it takes no space before it,
    and white space before it counts as white space at the end."""
    letters, spaces, numbers = map(_matching, (r"\P{L}+", r"\S+", r"\P{N}+"))
    if digits:
        if not set(_digits()) >= set(numbers):
            raise ValueError("the reference has numbers that are no digits: not supported")
        letter, space, number = _class(letters), _class(spaces), _class(_digits())
        head, end = f"[{number}]|'s|'t|'re|'ve|'m|'ll|'d| ?[{letter}]+", f"[^{space}{number}]"
    else:
        letter, space, number = map(_class, (letters, spaces, numbers))
        head, end = f"'s|'t|'re|'ve|'m|'ll|'d| ?[{letter}]+| ?[{number}]+", f"[^{space}]"
    return f"{head}| ?[^{space}{letter}{number}]+|[{space}]+(?!{end})|[{space}]+"


# Byte-level BPE ---------------------------------------------------------------------------------


def _byte_characters() -> list[str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b if b in printable else next(others)) for b in range(256)]


def _special(config: dict) -> list[dict]:
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


def _byte_bpe(tokenizer: Tokenizer, config: dict) -> tuple[dict, bytes]:
    model = config["model"]
    _expect(config["normalizer"], None, "normalizer")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                 "ignore_merges"):
        _expect(model.get(name) or None, None, f"model.{name}")
    steps = config["pre_tokenizer"]
    steps = steps["pretokenizers"] if steps and steps["type"] == "Sequence" else [steps]
    digits = len(steps) == 2 and steps[0] == {"type": "Digits", "individual_digits": True}
    last = steps[-1] or {}
    if len(steps) != 1 + digits or last.get("type") != "ByteLevel":
        raise ValueError(
            f"tokenizer.json, pre_tokenizer: found {steps}, supported is ByteLevel, alone or after "
            "Digits(individual_digits)"
        )
    _expect(last.get("use_regex", True), True, "pre_tokenizer.use_regex")
    _expect(last.get("add_prefix_space"), False, "pre_tokenizer.add_prefix_space")

    special = _special(config)
    if not special:
        raise ValueError("tokenizer.json: no special token, expected at least the end of text")
    vocabulary = {i: t for t, i in tokenizer.get_vocab(with_added_tokens=True).items()}
    if sorted(vocabulary) != list(range(len(vocabulary))):
        raise ValueError(f"tokenizer.json: ids are not 0 to {len(vocabulary) - 1} without gaps")
    if model.get("unk_token") and not set(_byte_characters()) <= set(vocabulary.values()):
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
        (text, 0.0, 2 if i == unknown else 3) if i in special_ids
        else (text, -float(rank.get(text, 0)), 1)
        for i, text in sorted(vocabulary.items())
    ]
    spec = {
        "kind": "byte_bpe", "vocab_size": len(vocabulary), "special": special,
        **_bos(tokenizer.encode("").ids), "pattern": _gpt2_pattern(digits),
    }
    return spec, _model_proto(pieces, dummy_prefix=False, byte_fallback=False)


def check_merges(tokenizer: Tokenizer, vocabulary: dict[int, str]) -> None:
    """See the top of this file. Throws ValueError for a token that is not its own encoding."""
    for number, text in vocabulary.items():
        if [t.id for t in tokenizer.model.tokenize(text)] != [number]:
            raise ValueError(
                f"token {number} ({text!r}) is not what the reference makes of its own text: such "
                "a vocabulary is not supported"
            )


def _bos(added: list[int]) -> dict:
    """What the reference puts around an empty text."""
    if len(added) > 1:
        raise ValueError(f"the tokenizer adds the ids {added} to every text; supported is one")
    return {"add_bos": bool(added), **({"bos_id": added[0]} if added else {})}


# SentencePiece ----------------------------------------------------------------------------------


def _field(number: int, value: int | float | bytes) -> bytes:
    """One protobuf field."""
    def varint(n: int) -> bytes:
        out = bytearray()
        while n >= 0x80:
            out.append(n & 0x7F | 0x80)
            n >>= 7
        return bytes(out + bytes([n]))

    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def _piece(text: str, score: float, kind: int) -> bytes:
    return _field(1, _field(1, text.encode()) + _field(2, score) + _field(3, kind))


def _model_proto(pieces, dummy_prefix: bool, byte_fallback: bool) -> bytes:
    """A SentencePiece BPE model (sentencepiece_model.proto's ModelProto) with the identity
    normalizer. A piece is (text, score, type); types: 1 normal, 2 unknown, 3 control, 6 byte."""
    pieces = list(pieces)
    trainer = (
        _field(3, 2) + _field(4, len(pieces)) + _field(35, int(byte_fallback))
        + _field(40, next(i for i, p in enumerate(pieces) if p[2] == 2))
    )
    normalizer = (
        _field(1, b"identity") + _field(3, int(dummy_prefix)) + _field(4, 0)
        + _field(5, int(byte_fallback))  # spaces become U+2581; byte-level text has none
    )
    return b"".join(_piece(*p) for p in pieces) + _field(2, trainer) + _field(3, normalizer)


def _sentencepiece(
    model: bytes, settings: dict, tokenizer: Tokenizer | None, added: list[dict]
) -> Words:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    special = [
        {"text": processor.id_to_piece(i), "id": i, "lstrip": False, "rstrip": False}
        for i in range(processor.get_piece_size())
        if processor.is_control(i) or processor.is_unknown(i)
    ]
    bos = [processor.bos_id()] if settings.get("add_bos_token", True) else []
    if not bos or bos[0] < 0:
        bos = [t["id"] for t in special if t["text"] == settings.get("bos_token")] if bos else []
    if tokenizer is not None:
        special = _special(json.loads(tokenizer.to_str()))
        bos = tokenizer.encode("").ids
    else:
        numbers = {t["id"] for t in added}
        special = [t for t in special if t["id"] not in numbers] + added
    if tokenizer is not None or added:
        for t in sorted(special, key=lambda t: t["id"]):
            if t["id"] > processor.get_piece_size():
                raise ValueError(f"token {t['text']!r}: id {t['id']} leaves a gap before it")
            if t["id"] == processor.get_piece_size():
                # Fields of one message may follow each other: this appends a piece.
                model += _piece(t["text"], 0.0, 3)
                processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            elif processor.id_to_piece(t["id"]) != t["text"]:
                raise ValueError(
                    f"token {t['id']}: added as {t['text']!r}, in tokenizer.model it is "
                    f"{processor.id_to_piece(t['id'])!r}"
                )
    spec = {
        "kind": "sentencepiece", "vocab_size": processor.get_piece_size(), "special": special,
        **_bos(bos), "dummy_prefix": processor.encode("x", out_type=str)[0].startswith("\u2581"),
    }

    def encode(text: str) -> list[int]:
        ids = list(bos)
        for stretch, number in _split(spec, text):
            ids += processor.encode(stretch) if number is None else [number]
        return ids

    if tokenizer is not None:
        return _words(spec, model, tokenizer, encode)
    # No tokenizer.json: the SentencePiece library is itself the reference.
    return Words(spec, model, None, encode, processor.decode, encode)


# The program's path, in Python ------------------------------------------------------------------


def _split(spec: dict, text: str) -> list[tuple[str, int | None]]:
    """(stretch, id of a special token or None), as SpecialTokens::Split in src/text."""
    tokens = sorted(spec["special"], key=lambda t: -len(t["text"].encode()))
    if not tokens:
        return [(text, None)] if text else []
    space = _for_python(_class(_matching(r"\S+")))
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


def _byte_bpe_mirror(spec: dict, model: bytes) -> Callable[[str], list[int]]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    characters = _byte_characters()
    present = [processor.piece_to_id(c) != processor.unk_id() for c in characters]
    pattern = regex.compile(_for_python(spec["pattern"]))

    def encode(text: str) -> list[int]:
        ids = [spec["bos_id"]] if spec["add_bos"] else []
        for stretch, number in _split(spec, text):
            if number is not None:
                ids.append(number)
                continue
            for cut in pattern.findall(stretch):
                ids += processor.encode("".join(characters[b] for b in cut.encode() if present[b]))
        return ids

    return encode


# WordPiece --------------------------------------------------------------------------------------


def _wordpiece(tokenizer: Tokenizer, config: dict) -> tuple[dict, bytes]:
    model, normalizer = config["model"], config["normalizer"] or {}
    _expect(normalizer.get("type"), "BertNormalizer", "normalizer")
    _expect(normalizer["clean_text"], True, "normalizer.clean_text")
    _expect((config["pre_tokenizer"] or {}).get("type"), "BertPreTokenizer", "pre_tokenizer")
    _expect(model["continuing_subword_prefix"], "##", "model.continuing_subword_prefix")
    special = _special(config)
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
        "classes": {k: [c for r in _ranges(v) for c in r] for k, v in _bert_classes().items()},
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
    for c in _every_character():
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


def _wordpiece_mirror(spec: dict, model: bytes) -> Callable[[str], list[int]]:
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
        for stretch, number in _split(spec, text):
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


# Chat templates ---------------------------------------------------------------------------------


def reduce_template(
    text: str, bos: str | None, eos: str | None, adds_bos: bool = False
) -> dict | None:
    """The template as a prefix and a suffix for each role, found by rendering probes and proved by
    rendering conversations; None, with a warning, when that is not what the template does."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def refuse(message):
        raise jinja2.TemplateError(message)

    environment.globals["raise_exception"] = refuse
    try:
        template = environment.from_string(text)
    except jinja2.TemplateError as error:
        return drop_template(error)

    def render(*turns: tuple[str, str], opened: bool = False) -> str:
        messages = [{"role": r, "content": c} for r, c in turns]
        return template.render(
            messages=messages, add_generation_prompt=opened, bos_token=bos or "",
            eos_token=eos or "",
        )

    def render_reduced(spec: dict, *turns: tuple[str, str], opened: bool = False) -> str:
        if spec["default_system"] is not None and turns and turns[0][0] != "system":
            turns = (("system", spec["default_system"]), *turns)
        parts = (spec["roles"][r]["prefix"] + c + spec["roles"][r]["suffix"] for r, c in turns)
        return spec["begin"] + "".join(parts) + (spec["open_assistant"] if opened else "")

    def around(whole: str, content: str, before: str) -> dict:
        prefix, found, suffix = whole.removeprefix(before).partition(content)
        if not whole.startswith(before) or not found:
            raise ValueError("a message changes what is written before it")
        return {"prefix": prefix, "suffix": suffix}

    try:
        begin = render()
        first = ("user", "\u2042one")
        asked = render(first)
        replied = render(first, ("assistant", "\u2042two"))
        roles = {"assistant": around(replied, "\u2042two", asked)}
        # After an answer a question has nothing but its own prefix; before it, maybe a default
        # system message.
        roles["user"] = around(render(first, ("assistant", "x"), ("user", "\u2042three")),
                               "\u2042three", render(first, ("assistant", "x")))
        head = asked.removeprefix(begin).removesuffix(
            roles["user"]["prefix"] + "\u2042one" + roles["user"]["suffix"]
        )
        default = None
        try:
            roles["system"] = around(render(("system", "\u2042sys")), "\u2042sys", begin)
        except jinja2.TemplateError:
            pass  # the template refuses system messages
        if head:
            system = roles.get("system")
            if not system or not head.startswith(system["prefix"]):
                begin, head = begin + head, ""
            else:
                default = head.removeprefix(system["prefix"]).removesuffix(system["suffix"])
        opened = render(first, opened=True).removeprefix(asked)
        spec = {"begin": begin, "default_system": default, "open_assistant": opened, "roles": roles}
        conversations = [
            [("user", " a \n")], [("user", "")], [("user", "a"), ("assistant", " b")],
            [("user", "a"), ("assistant", "b\n"), ("user", "c")],
            [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "5")],
        ]
        if "system" in roles:
            conversations += [[("system", " s "), *c] for c in conversations]
        for turns in conversations:
            for opened in (False, True):
                if render(*turns, opened=opened) != render_reduced(spec, *turns, opened=opened):
                    raise ValueError(f"a conversation of {len(turns)} messages comes out otherwise")
    except Exception as error:  # a template is a program, and may fail in any way
        return drop_template(error)
    # The program's Encode adds the beginning-of-text token; transformers does not to a template's
    # text, which has its own.
    spec["strip"] = bos if adds_bos and bos else ""
    return spec


def drop_template(error: Exception) -> None:
    print(f"warning: the chat template is left out: it can't be written as prefixes and suffixes "
          f"({one_line(error, 200)})", file=sys.stderr)
