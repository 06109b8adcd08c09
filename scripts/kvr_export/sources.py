"""Reads a model with the well-kept loaders: a hub id, a folder in the hub's layout, or a GGUF file."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

FAMILIES = {"gpt2": "gpt2", "llama": "llama", "bert": "bert"}
WEIGHTS = ["*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*"]
TOKENIZER_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]


class Refused(Exception):
    """A source that can't be exported; the message is for the user."""


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
            model = auto.from_config(self.config, dtype=torch.float32)
        elif self.path.is_file():
            model = auto.from_pretrained(
                self.path.parent, gguf_file=self.path.name, dtype=torch.float32
            )
        else:
            # transformers reads a legacy pytorch_model.bin with weights_only=True.
            model = auto.from_pretrained(self.path, dtype=torch.float32, local_files_only=True)
        return model.eval()


def find(source: str, name: str | None, random_weights: bool, seed: int) -> Source:
    """Throws Refused when SOURCE is nothing known."""
    path = Path(source)
    origin = {"source": path.name if path.exists() else source}
    if path.is_file() and path.suffix.lower() == ".gguf":
        try:
            config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        except ValueError as error:
            raise Refused(f"{path}: {error}; supported families: {', '.join(FAMILIES)}") from error
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
    origin["weights"] = "made from the seed" if random_weights else "the source's"
    # A folder whose weights are themselves seeded noise says so in its config.
    marked = getattr(config, "kvr_random_weights", None)
    random_seed = seed if random_weights else (marked["seed"] if marked else None)
    return Source(name or default_name(source, path), path, family, config, random_seed, origin)


def read_config(path: Path) -> transformers.PretrainedConfig:
    if not path.is_file():
        raise Refused(f"{path} is missing: a folder in the hub's layout has a config.json")
    try:
        model_type = json.loads(path.read_text())["model_type"]
    except (ValueError, KeyError) as error:
        raise Refused(f"{path}: no JSON object with a model_type ({error})") from error
    if model_type not in FAMILIES:
        raise Refused(
            f"{path}: model_type is '{model_type}'; supported are "
            "gpt2 (GPT-2, DialoGPT), llama (Llama, SmolLM2, TinyLlama) and bert (MiniLM encoders)"
        )
    return transformers.AutoConfig.from_pretrained(path)


def download(hub_id: str) -> tuple[Path, dict]:
    import huggingface_hub

    if hub_id.count("/") != 1 or hub_id.startswith((".", "/", "~")):
        raise Refused(f"{hub_id}: no such file or folder, and not a hub id (owner/name)")
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
            f"{hub_id}: can't be fetched from the hub ({type(error).__name__}: {error}). "
            "Give a local folder with config.json, the weights and the tokenizer's files instead"
        ) from error
    return Path(folder), {"source": hub_id, "revision": info.sha}


def default_name(source: str, path: Path) -> str:
    if path.is_file():
        return path.name.split(".")[0]
    return os.path.basename(source.rstrip("/"))
