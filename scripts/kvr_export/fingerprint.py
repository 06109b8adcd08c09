"""Names a model by all that decides what it computes, and by nothing else.

Two exports of one source have one fingerprint, whatever the files of this package look like: of the
networks the compiled graph counts, which has no comments, no lines and no names of local variables.
"""

import hashlib
import json
import re

import torch
from torch import Tensor, nn

# Fields of metadata.json that change what comes out; the others say where it came from.
FIELDS = (
    "format_version", "kind", "family", "shape", "context_tokens", "pooling", "precision", "eos_ids",
    "tokenizer", "template",
)


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


def graph(scripted: torch.jit.ScriptModule) -> list[str]:
    """The code of each method with all that it calls, as the compiler has it."""
    found = []
    for method in sorted(scripted._c._method_names()):
        text = str(scripted._c._get_method(method).inlined_graph)
        text = re.sub(r"\s*# \S+:\d+:\d+$", "", text, flags=re.MULTILINE)  # where a line comes from
        # A class is named after its file, and numbered by how many came before.
        text = re.sub(r"__torch__[\w.]*", "module", text)
        numbers: dict[str, str] = {}
        found.append(
            re.sub(r"%[\w.]+", lambda m: numbers.setdefault(m[0], f"%{len(numbers)}"), text)
        )
    return found


def fingerprint(
    module: nn.Module, scripted: torch.jit.ScriptModule, metadata: dict, tokenizer_model: bytes
) -> str:
    """`module` is what `scripted` was compiled from."""
    head = {
        "metadata": {field: metadata.get(field) for field in FIELDS},
        "settings": [
            [f"{part}{name}", value] for part, name, value in attributes(module)
            if isinstance(value, (bool, int, float, str))
        ],
        "graph": graph(scripted),
        "tokenizer_model": hashlib.sha256(tokenizer_model).hexdigest(),
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name, tensor in named_tensors(module):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
