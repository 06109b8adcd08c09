"""Reads GGUF files (llama.cpp): keys, and tensors under the names of transformers' model."""

import re
from functools import cache, partial
from pathlib import Path

import torch

from . import files
from .family import Family
from .refused import Damaged


@cache  # three parts of the exporter look into it, and parsing takes seconds
def read(path: Path):
    import gguf

    files.refuse_pointer(path)
    try:
        return gguf.GGUFReader(path)
    except Exception as error:  # numpy's and struct's, by where the file ends
        raise Damaged(f"{path} is no whole GGUF file ({error}); fetch it again") from error


def get(reader, key: str, default=None):
    field = reader.fields.get(key)
    return default if field is None else field.contents()


def tensors(path: Path, family: Family, config):
    """(name, tensor, arrange) of each: transformers' name, or GGUF's where the family knows none and
    `arrange` is None; else what makes transformers' order of a plane whose rows are the tensor's."""
    for tensor in read(path).tensors:
        stem, _, kind = tensor.name.rpartition(".")
        number = re.match(r"blk\.(\d+)\.", stem)
        stem = re.sub(r"^blk\.\d+\.", "blk.N.", stem)
        name = family.gguf_names.get(stem)
        if name is None:
            yield tensor.name, tensor, None
            continue
        if number:
            name = name.replace(".N.", f".{number[1]}.")
        heads = family.gguf_paired.get(stem)
        yield f"{name}.{kind}", tensor, partial(
            arranged, heads=None if heads is None else getattr(config, heads),
            turned=kind == "weight" and stem in family.gguf_turned,
        )


def open_tensors(path: Path, family: Family, config) -> dict:
    """As files.open_folder: each tensor as a function that reads it, by transformers' name."""
    return {
        # What the family does not know nobody asks for: it is refused by its name.
        name: partial(values_of, tensor, arrange) if arrange else lambda: torch.empty(0)
        for name, tensor, arrange in tensors(path, family, config)
    }


def values_of(tensor, arrange) -> torch.Tensor:
    import gguf

    return arrange(
        torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
    )


def arranged(values: torch.Tensor, heads: int | None, turned: bool) -> torch.Tensor:
    """`heads`: of rows that llama.cpp pairs by neighbours where transformers pairs halves."""
    if heads is not None:
        pairs = values.view(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
        values = pairs.transpose(1, 2).reshape(values.shape)
    return values.T if turned else values
