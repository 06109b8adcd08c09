"""Builds the archive, proves it equal to the reference, and writes it."""

import json
import os
from pathlib import Path
from typing import Callable

import torch

from . import consumed, files, kept, parity, seal, tokenizer
from .fingerprint import fingerprint, weights_sha256
from .layers import VECTOR, load_kernels, script
from .refused import Damaged
from .sources import Source
from .weights import Weights

FORMAT_VERSION = 3


def export(source: Source, out: Path, precision: str, say: Callable[[str], None]) -> None:
    """Throws Refused, Different, ValueError and OSError; `out` is then as it was."""
    if precision not in source.family.precisions:
        names = " and ".join(source.family.precisions)
        raise ValueError(f"a model of the family {source.family.name} has precision {names}, not "
                         f"{precision}")
    # An unwritable place is better known before the work than after it.
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    partial.touch()
    try:
        say(f"reading {source.name} ({source.family.name})")
        reference = source.load()
        words = tokenizer.load(source.path, source.family)
        say("building the archive")
        weights = Weights(reference.state_dict())
        built = "fp32" if precision == "source" else precision  # kept.keep() then replaces the values
        module = source.family.network(reference, weights, built, source.path)
        consumed.check_network(source.path, source.family, weights)
        if precision == "source":
            kept.keep(module, source, reference)
        native = load_kernels()  # before the compiler meets their names
        scripted = script(module)
        metadata = describe(source, module, scripted, reference, words, precision)
        check_ids(words, metadata)
        # As KernelsFor in src/model/network.cc has it: whole vectors only.
        shape = metadata["shape"]
        whole = shape["head_dim"] % VECTOR == 0 and shape["width"] % VECTOR == 0
        say("comparing it with the reference")
        compared = parity.tokenizer_parity(words)
        save(scripted, partial, metadata, words.model)
        # What is compared is what was written, as the program runs it: with torch's kernels, and
        # with its own where the CPU has them.
        for kernels in [False, True] if native and whole else [False]:
            compared["kernels" if kernels else "torch"] = parity.compare(
                torch.jit.load(str(partial)), kernels, reference, words, metadata
            )
        if precision == "source" and "kernels" in compared:
            full = source.family.network(reference, Weights(reference.state_dict()), "fp32", source.path)
            compared["kernels"] |= parity.same_bits(torch.jit.load(str(partial)), full, metadata)
        metadata["parity"] = compared
        save(scripted, partial, metadata, words.model)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    say(f"wrote {out} ({out.stat().st_size / 1e6:.0f} MB)")
    print(json.dumps({"archive": str(out), **metadata["parity"]}, indent=2))


def describe(source: Source, module, scripted, reference, words, precision: str) -> dict:
    """metadata.json without the parity figures."""
    metadata = {
        "format_version": FORMAT_VERSION,
        "kind": "encoder" if source.family.encoder else "language_model",
        "name": source.name,
        **source.family.architecture(reference, module, source.path),
        "precision": precision,
        "eos_ids": eos_ids(source),
        "tokenizer": words.spec,
        "template": words.template,
        "random_weights": source.random_seed is not None,
        "seed": source.random_seed,
        "origin": source.origin,
    }
    metadata["weights_sha256"] = weights_sha256(module)
    metadata["fingerprint"] = fingerprint(module, scripted, metadata, words.model)
    return metadata


def eos_ids(source: Source) -> list[int]:
    """All ids that end a text: the config's and those of generation_config.json, which generate
    goes by."""
    if source.family.encoder:
        return []
    found = [source.config.eos_token_id]
    generation = source.path / "generation_config.json"
    if generation.is_file():
        found.append(files.read_json(generation).get("eos_token_id"))
    ids: list[int] = []
    for eos in found:
        ids += eos if isinstance(eos, list) else [] if eos is None else [eos]
    return list(dict.fromkeys(ids))


def check_ids(words, metadata: dict) -> None:
    """No id of the tokenizer may lie outside the network's vocabulary."""
    vocab, spec = metadata["shape"]["vocab"], words.spec
    count = spec.get("vocab_size") or words.model.decode().count("\n") + 1
    if count > vocab:
        raise Damaged(f"the tokenizer has {count} ids, the network only {vocab} "
                      "(were tokens added without resizing the embeddings?)")
    for number in metadata["eos_ids"]:
        if not 0 <= number < vocab:
            raise Damaged(f"eos_token_id {number} lies outside the vocabulary of {vocab}")


def save(scripted: torch.jit.ScriptModule, path: Path, metadata: dict, words: bytes) -> None:
    description = json.dumps(metadata, indent=1)
    extra = {"metadata.json": description, "tokenizer.model": words}
    torch.jit.save(scripted, str(path), _extra_files=extra)
    seal.seal(path, description.encode(), words)
