"""The tokenizer of a folder in the hub's layout."""

from pathlib import Path

import transformers
from tokenizers import Tokenizer

from .. import files
from ..family import Family
from ..refused import Damaged, Refused, one_line
from .added import listed_tokens, tokens_beside
from .backend import from_tokenizer
from .sentence_pieces import from_sentencepiece
from .words import Words


# Files without tokenizer.json, the class that says what is done with them, and those that do the same.
BYTE_LEVEL = {"GPT2Tokenizer": transformers.GPT2Tokenizer}
WORD_PIECES = dict.fromkeys(
    ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"), transformers.BertTokenizer
)


def read_folder(path: Path, family: Family) -> tuple[dict, Words]:
    settings = read_settings(path)
    tokenizer = None
    if (path / "tokenizer.json").is_file():
        files.read_json(path / "tokenizer.json")  # its errors name the file
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        check_added(path, settings, tokenizer)
    if (path / "tokenizer.model").is_file():
        model = (path / "tokenizer.model").read_bytes()
        files.refuse_pointer(path / "tokenizer.model")
        if tokenizer is not None:
            return settings, from_sentencepiece(model, settings, tokenizer, [])
        words = from_sentencepiece(model, settings, None, tokens_beside(path, settings))
        check_setting(path, settings, "add_eos_token", False)
        check_setting(path, settings, "add_prefix_space", words.spec["dummy_prefix"])
        return settings, words
    if tokenizer is None and (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
        for name in ("bos_token", "eos_token"):
            settings.setdefault(name, "<|endoftext|>")
        tokenizer = of_transformers(path, family, settings, BYTE_LEVEL)
    if tokenizer is None and (path / "vocab.txt").is_file():
        tokenizer = of_transformers(path, family, settings, WORD_PIECES)
    if tokenizer is None:
        raise ValueError(
            f"{path}: no tokenizer found; expected tokenizer.json, tokenizer.model, vocab.json "
            "with merges.txt, or vocab.txt"
        )
    words = from_tokenizer(tokenizer)
    if words.spec["kind"] == "byte_bpe":
        check_setting(path, settings, "add_prefix_space", False)
    return settings, words


def check_setting(path: Path, settings: dict, name: str, does: bool) -> None:
    """Beside a file that does one thing tokenizer_config.json may not say the other."""
    if settings.get(name) not in (None, does):
        raise Refused(f"{path}: tokenizer_config.json says {name} {settings[name]}, which the "
                      "tokenizer's own file does not: not supported")


def check_added(path: Path, settings: dict, tokenizer: Tokenizer) -> None:
    """Tokens that other files add to tokenizer.json, as transformers does, are not supported."""
    own = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
    for token in listed_tokens(path, settings):
        if own.get(token["id"]) != token["text"]:
            raise Refused(f"{path}: the added token {token['text']!r} ({token['id']}) is not in "
                          "tokenizer.json: not supported")


def read_settings(path: Path) -> dict:
    settings = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (path / name).is_file():
            settings |= files.read_json(path / name)
    for name in ("bos_token", "eos_token"):
        if isinstance(settings.get(name), dict):
            settings[name] = settings[name]["content"]
    if (path / "chat_template.jinja").is_file():
        settings["chat_template"] = (path / "chat_template.jinja").read_text(encoding="utf-8")
    elif isinstance(named := settings.get("chat_template"), list):
        settings["chat_template"] = {t["name"]: t["template"] for t in named}.get("default")
    return settings


def of_transformers(path: Path, family: Family, settings: dict, kinds: dict) -> Tokenizer:
    """Which files add tokens, and in which order, is transformers' to say."""
    name = settings.get("tokenizer_class") or family.tokenizer_class
    kind = kinds.get(name.removesuffix("Fast"))
    if kind is None:
        raise Refused(f"{path}: no tokenizer.json, and tokenizer_class is {name!r}; supported with "
                      f"these files are {', '.join(kinds)}")
    try:
        return kind.from_pretrained(path, local_files_only=True).backend_tokenizer
    except Exception as error:  # of many kinds, by which file is wrong
        raise Damaged(f"{path}: the tokenizer can't be read: {one_line(error, 200)}") from error
