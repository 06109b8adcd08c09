"""The programs that are measured. Each is a file in programs/, with a class under this decorator.

A program's class has

  __init__(model, variant, scratch, threads)   gets ready; `scratch` is a folder for its files
  run(case)   returns {"ttft": ms} and, by case, "decode" (ms per token after the first), "restore",
              "embed"; and "token", the first new one, or "embedding"

Its docstring is what --help says of it.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from . import programs


class Unavailable(Exception):
    """A program that can't take part; the message says why."""


@dataclass(frozen=True)
class Program:
    name: str
    place: int  # its place in the tables and in the first round
    make: type
    language: Iterable[str] = ()  # its variants on language models
    encoder: Iterable[str] = ()  # its variants on the sentence encoder
    packages: Iterable[str] = ()  # whose versions are recorded
    # By variant, the precisions of kvr's that it is compared with besides fp32.
    compared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    own_process: bool = True

    def label(self, variant: str) -> str:
        return f"{self.name} {variant}".strip()

    def labels(self) -> list[str]:
        return [self.label(variant) for variant in [*self.language, *self.encoder]]

    def about(self) -> str:
        return " ".join(inspect.getdoc(self.make).split())


_registered: list[Program] = []


def program(name: str, place: int, **facts) -> Callable[[type], type]:
    """Registers a class as a program; `facts` are fields of Program."""

    def register(make: type) -> type:
        _registered.append(Program(name, place, make, **facts))
        return make

    return register


def all_programs() -> list[Program]:
    for module in pkgutil.iter_modules(programs.__path__, f"{programs.__name__}."):
        importlib.import_module(module.name)
    return sorted(_registered, key=lambda program: program.place)


def asked_for(label: str, wanted: list[str] | None) -> bool:
    return not wanted or any(label == w or label.startswith(w + " ") for w in wanted)
