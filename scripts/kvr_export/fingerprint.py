"""Names a model by all that decides what it computes, and by nothing else."""

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn


def named_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters, buffers and plain attributes, without those that `prepare` fills."""
    found = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for part, name, value in attributes(module):
        if torch.is_tensor(value):
            found[f"{part}{name}"] = value
    return sorted((n, t) for n, t in found.items() if t.numel() > 0)


def attributes(module: nn.Module):
    """(prefix, name, value) of what each part holds beside parameters, buffers and further parts."""
    for path, part in module.named_modules():
        for name, value in sorted(vars(part).items()):
            if not name.startswith("_") and name != "training":
                yield f"{path}." if path else "", name, value


def weights_sha256(module: nn.Module) -> str:
    """What `kvr model verify` computes again: SHA-256 over each weight's name and bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in named_tensors(module):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint(module: nn.Module, scripted, metadata: dict, tokenizer_model: bytes) -> str:
    """SHA-256 over format version, architecture, the networks' source, precision, tokenizer and every
    weight."""
    head = {
        **{name: metadata.get(name) for name in (
            "format_version", "family", "shape", "context_tokens", "pooling", "precision", "tokenizer",
        )},
        "settings": [
            [f"{part}{name}", value] for part, name, value in attributes(module)
            if isinstance(value, (bool, int, float, str))
        ],
        "code": [file.read_text() for file in (
            Path(__file__).parent / "layers.py", Path(__file__).parent / "networks.py",
            Path(__file__).parent / "families" / f"{metadata['family']}.py",
        )],
        "tokenizer_model": hashlib.sha256(tokenizer_model).hexdigest(),
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name, tensor in named_tensors(module):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
