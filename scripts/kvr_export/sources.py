"""Reads a model with the well-kept loaders: a hub id, a folder in the hub's layout, or a GGUF file."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

from . import consumed, files, gguf_file
from .families import FAMILIES, supported
from .family import Family
from .parity import GREEDY_TOKENS
from .refused import Damaged, Refused, one_line

WEIGHTS = ["*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*"]
SHORTEST_CONTEXT = GREEDY_TOKENS  # which the parity check decodes
TOKENIZER_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]


@dataclass
class Source:
    name: str
    path: Path  # the folder, or the GGUF file
    family: Family
    config: transformers.PretrainedConfig
    random_seed: int | None  # None: the weights are the model's own
    origin: dict = field(default_factory=dict)

    def load(self) -> torch.nn.Module:
        """The reference model, fp32, in evaluation mode."""
        auto = (
            transformers.AutoModel if self.family.encoder else transformers.AutoModelForCausalLM
        )
        if self.origin.get("weights") == "made from the seed":
            torch.manual_seed(self.random_seed)
            return auto.from_config(self.config, dtype=torch.float32).eval()
        # Before transformers reads it: our errors name the file.
        raw = files.open_folder(self.path) if self.path.is_dir() else None
        try:
            if self.path.is_file():
                model = auto.from_pretrained(
                    self.path.parent, gguf_file=self.path.name, dtype=torch.float32,
                    ignore_mismatched_sizes=True,  # consumed.check_tensors names them
                )
            else:
                # transformers reads a legacy pytorch_model.bin with weights_only=True.
                model = auto.from_pretrained(
                    self.path, dtype=torch.float32, local_files_only=True,
                    ignore_mismatched_sizes=True,  # consumed.check_tensors names them
                )
        except (RuntimeError, ValueError, KeyError) as error:
            raise Damaged(f"{self.path}: the weights can't be loaded: {one_line(error)}") from error
        if raw is None:
            raw = gguf_file.open_tensors(self.path, self.family, model.config)
        consumed.check_tensors(self.path, self.family, model, raw)
        return model.eval()


def find(source: str, name: str | None, random_weights: bool, seed: int) -> Source:
    """Throws Refused when SOURCE is nothing known."""
    path = Path(source)
    origin = {"source": path.name if path.exists() else source}
    if path.is_file() and path.suffix.lower() == ".gguf":
        file, config = path, read_gguf_config(path)
    elif path.is_file() and path.suffix == ".json" and random_weights:
        file, config, path = path, read_config(path), path.parent
    elif path.exists() and not path.is_dir():
        raise Refused(f"{source}: expected a folder in the hub's layout, a .gguf file or a hub id")
    else:
        if not path.exists():
            path, origin = download(source)
        file = path / "config.json"
        config = read_config(file)

    family = FAMILIES.get(config.model_type)
    if family is None:
        raise Refused(f"{source}: model_type is {config.model_type!r}; supported are {supported()}")
    if quantized := getattr(config, "quantization_config", None):
        method = quantized.get("quant_method", "?") if isinstance(quantized, dict) else "?"
        raise Refused(f"{source}: the weights are quantized ({method}); export the model that they "
                      "were made from")
    context = getattr(config, "max_position_embeddings", None)
    if not isinstance(context, int) or context <= SHORTEST_CONTEXT:
        raise Refused(f"{source}: a context of {context} tokens; supported are more than "
                      f"{SHORTEST_CONTEXT}")
    consumed.check_config(file, family, config)
    origin["weights"] = "made from the seed" if random_weights else "the source's"
    # A folder whose weights are themselves seeded noise says so in its config.
    marked = getattr(config, "kvr_random_weights", None)
    random_seed = seed if random_weights else (marked["seed"] if marked else None)
    return Source(name or default_name(source, path), path, family, config, random_seed, origin)


def read_gguf_config(path: Path) -> transformers.PretrainedConfig:
    gguf_file.read(path)
    try:
        return transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:  # of many kinds, by what the file says
        raise Refused(f"{path}: {one_line(error)}; supported families: {supported()}") from error


def read_config(path: Path) -> transformers.PretrainedConfig:
    if not path.is_file():
        raise Damaged(f"{path} is missing: a folder in the hub's layout has a config.json")
    model_type = files.read_json(path).get("model_type")
    if model_type not in FAMILIES:
        raise Refused(f"{path}: model_type is {model_type!r}; supported are {supported()}")
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
