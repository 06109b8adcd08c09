"""Reads a model with the well-kept loaders: a hub id, a folder in the hub's layout, or a GGUF file."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

from . import checkpoint
from .refused import Damaged, Refused, one_line

FAMILIES = {"gpt2": "gpt2", "llama": "llama", "bert": "bert"}
WEIGHTS = ["*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*"]
SHORTEST_CONTEXT = 32  # the parity check decodes as many tokens
TOKENIZER_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]


@dataclass
class Source:
    name: str
    path: Path  # the folder, or the GGUF file
    family: str
    config: transformers.PretrainedConfig
    random_seed: int | None  # None: the weights are the model's own
    origin: dict = field(default_factory=dict)

    def load(self) -> torch.nn.Module:
        """The reference model, fp32, in evaluation mode."""
        auto = (
            transformers.AutoModel if self.family == "bert" else transformers.AutoModelForCausalLM
        )
        if self.origin.get("weights") == "made from the seed":
            torch.manual_seed(self.random_seed)
            return auto.from_config(self.config, dtype=torch.float32).eval()
        # Before transformers reads it: our errors name the file.
        raw = checkpoint.open_folder(self.path) if self.path.is_dir() else None
        try:
            if self.path.is_file():
                model = auto.from_pretrained(
                    self.path.parent, gguf_file=self.path.name, dtype=torch.float32,
                    ignore_mismatched_sizes=True,  # checkpoint.check names them
                )
            else:
                # transformers reads a legacy pytorch_model.bin with weights_only=True.
                model = auto.from_pretrained(
                    self.path, dtype=torch.float32, local_files_only=True,
                    ignore_mismatched_sizes=True,  # checkpoint.check names them
                )
        except (RuntimeError, ValueError, KeyError) as error:
            raise Damaged(f"{self.path}: the weights can't be loaded: {one_line(error)}") from error
        checkpoint.check(self.path, self.family, model, raw)
        return model.eval()


def find(source: str, name: str | None, random_weights: bool, seed: int) -> Source:
    """Throws Refused when SOURCE is nothing known."""
    path = Path(source)
    origin = {"source": path.name if path.exists() else source}
    if path.is_file() and path.suffix.lower() == ".gguf":
        checkpoint.read_gguf(path)
        try:
            config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        except Exception as error:  # of many kinds, by what the file says
            raise Refused(
                f"{path}: {one_line(error)}; supported families: {', '.join(FAMILIES)}"
            ) from error
    elif path.is_file() and path.suffix == ".json" and random_weights:
        config = read_config(path)
        path = path.parent
    elif path.is_dir():
        config = read_config(path / "config.json")
    elif path.exists():
        raise Refused(f"{source}: expected a folder in the hub's layout, a .gguf file or a hub id")
    else:
        path, origin = download(source)
        config = read_config(path / "config.json")

    family = FAMILIES.get(config.model_type)
    if family is None:
        raise Refused(
            f"{source}: model_type is '{config.model_type}'; supported are "
            "gpt2 (GPT-2, DialoGPT), llama (Llama, SmolLM2, TinyLlama) and bert (MiniLM encoders)"
        )
    if quantized := getattr(config, "quantization_config", None):
        method = quantized.get("quant_method", "?") if isinstance(quantized, dict) else "?"
        raise Refused(f"{source}: the weights are quantized ({method}); export the model that they "
                      "were made from")
    context = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", 0)
    if not isinstance(context, int) or context <= SHORTEST_CONTEXT:
        raise Refused(f"{source}: a context of {context} tokens; supported are more than "
                      f"{SHORTEST_CONTEXT}")
    origin["weights"] = "made from the seed" if random_weights else "the source's"
    # A folder whose weights are themselves seeded noise says so in its config.
    marked = getattr(config, "kvr_random_weights", None)
    random_seed = seed if random_weights else (marked["seed"] if marked else None)
    return Source(name or default_name(source, path), path, family, config, random_seed, origin)


def read_config(path: Path) -> transformers.PretrainedConfig:
    if not path.is_file():
        raise Damaged(f"{path} is missing: a folder in the hub's layout has a config.json")
    model_type = checkpoint.read_json(path).get("model_type")
    if model_type not in FAMILIES:
        raise Refused(
            f"{path}: model_type is {model_type!r}; supported are "
            "gpt2 (GPT-2, DialoGPT), llama (Llama, SmolLM2, TinyLlama) and bert (MiniLM encoders)"
        )
    try:
        return transformers.AutoConfig.from_pretrained(path)
    except Exception as error:  # of many kinds, by which field is wrong
        raise Damaged(f"{path}: {one_line(error)}") from error


def download(hub_id: str) -> tuple[Path, dict]:
    import huggingface_hub

    # "gpt2" and a few old others have no owner.
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", hub_id):
        raise Refused(f"{hub_id}: no such file or folder, and not a hub id (owner/name, or a name)")
    try:
        info = huggingface_hub.HfApi().model_info(hub_id, timeout=20)
        names = {s.rfilename for s in info.siblings}
        # safetensors where there are any; the legacy pickle only otherwise.
        weights = WEIGHTS[:2] if any(n.endswith(".safetensors") for n in names) else WEIGHTS[2:]
        folder = huggingface_hub.snapshot_download(
            hub_id, revision=info.sha, allow_patterns=weights + TOKENIZER_FILES
        )
    except Exception as error:  # the hub's client has no common base for network failures
        raise Refused(
            f"{hub_id}: no such file or folder, and it can't be fetched from the hub "
            f"({type(error).__name__}: {one_line(error)}). "
            "Give a local folder with config.json, the weights and the tokenizer's files instead"
        ) from error
    return Path(folder), {"source": hub_id, "revision": info.sha}


def default_name(source: str, path: Path) -> str:
    if path.is_file():
        return path.name.split(".")[0]
    return os.path.basename(source.rstrip("/"))


def pooling(path: Path) -> str:
    """How a sentence encoder's folder pools: "mean", also where it does not say, or "cls"."""
    modules = path / "modules.json"
    if not modules.is_file():
        return "mean"
    parts = checkpoint.read_json(modules, list)
    kinds = [str(part.get("type", "")).rpartition(".")[2] for part in parts]
    for kind in kinds:
        if kind not in ("Transformer", "Pooling", "Normalize"):
            raise Refused(f"{modules}: the module {kind} is not supported")
    if "Pooling" not in kinds:
        raise Refused(f"{modules}: no module Pooling; supported are mean and cls")
    file = path / parts[kinds.index("Pooling")].get("path", "") / "config.json"
    settings = checkpoint.read_json(file)
    modes = {
        name.removeprefix("pooling_mode_") for name, value in settings.items()
        if name.startswith("pooling_mode_") and value
    }
    if "pooling_mode" in settings:  # newer versions of sentence-transformers
        named = settings["pooling_mode"]
        modes |= set(named if isinstance(named, list) else [named])
    known = {"mean_tokens": "mean", "mean": "mean", "cls_token": "cls", "cls": "cls"}
    if len(modes) != 1 or not modes <= set(known):
        named_or_none = " and ".join(sorted(modes)) or "nothing"
        raise Refused(f"{file}: pooling by {named_or_none}; supported are mean and cls")
    prompts = path / "config_sentence_transformers.json"
    if prompts.is_file() and (name := checkpoint.read_json(prompts).get("default_prompt_name")):
        raise Refused(f"{prompts}: the default prompt {name!r} is not supported")
    return known[modes.pop()]
