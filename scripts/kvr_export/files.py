"""Reads the files of a model's folder; an error names the file."""

import json
from pathlib import Path

import torch

from .refused import Damaged, Refused

LFS_POINTER = b"version https://git-lfs"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def open_folder(path: Path) -> dict:
    """Each tensor of a folder's weights as a function that reads it, by name."""
    for adapter in sorted(path.glob("adapter_*")):
        raise Refused(f"{adapter}: an adapter beside the weights; merge it into them, export that")
    for name in WEIGHTS:
        index = path / f"{name}.index.json"
        if (path / name).is_file():
            return open_file(path / name)
        if index.is_file():
            found = {}
            for shard in sorted(set(read_json(index).get("weight_map", {}).values())):
                found |= open_file(path / shard)
            declared = set(read_json(index)["weight_map"])
            if declared != set(found):
                raise Damaged(f"{index}: {some(declared ^ set(found))} not as the index says")
            return found
    raise Damaged(f"{path}: no weights; expected one of {', '.join(WEIGHTS)} or its index")


def open_file(path: Path) -> dict:
    if not path.is_file():
        raise Damaged(f"{path} is missing; fetch the model again")
    refuse_pointer(path)
    if path.suffix == ".safetensors":
        import safetensors

        try:
            file = safetensors.safe_open(str(path), framework="pt")
        except Exception as error:  # SafetensorError has no public base
            raise Damaged(f"{path} can't be read ({error}); fetch it again") from error
        return {name: lambda name=name: file.get_tensor(name) for name in file.keys()}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise Damaged(f"{path} can't be read ({type(error).__name__}); fetch it again") from error
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        raise Damaged(f"{path}: expected a flat dictionary of tensors")
    return {name: lambda name=name: state[name] for name in state}


def refuse_pointer(path: Path) -> None:
    with open(path, "rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise Damaged(f"{path} is a Git LFS pointer, not the file; run: git lfs pull")


def read_json(path: Path, kind: type = dict):
    refuse_pointer(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: not valid JSON ({error})") from error
    if not isinstance(found, kind):
        expected = "an object" if kind is dict else "a list"
        raise Damaged(f"{path}: expected {expected} of JSON")
    return found


def some(names) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
