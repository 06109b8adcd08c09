"""What the exporter has to know of a kind of model. Each kind is one file in families/:

    @family("llama")
    class Llama(Family):
        ...

Its class attributes are data, its methods build the network. What it names nowhere, a key of the
configuration or a tensor, is refused (consumed.py).
"""

import re
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor, nn

from .layers import PRECISIONS
from .weights import Weights

FAMILIES: dict[str, "Family"] = {}  # by config.json's model_type, in the order of families/
ANY = None  # a key whose every value is computed with


class Family:
    name: str  # config.json's model_type
    title: str  # models of the kind, for messages
    encoder = False
    precisions: tuple[str, ...] = PRECISIONS

    # Keys of config.json that the network computes with, and the values that it can. A dot leads into
    # an object; a list's elements each have to be among the values.
    keys: dict[str, tuple | None] = {}
    # Patterns of keys, and of tensors in a checkpoint, that change no result, each with the reason.
    # Keys that every kind may have are in consumed.py.
    ignored_keys: dict[str, str] = {}
    ignored_tensors: dict[str, str] = {}

    # GGUF's architecture, and its names for the modules of transformers' model, which are those of a
    # checkpoint in the hub's layout too. None: not read from GGUF.
    gguf: str | None = None
    gguf_names: dict[str, str] = {}
    # Modules whose rows llama.cpp pairs by neighbours where transformers pairs by halves of a head, and
    # the key that says how many heads they have.
    gguf_paired: dict[str, str] = {}
    # Modules whose weight llama.cpp has as [out, in] where transformers has [in, out].
    gguf_turned: tuple[str, ...] = ()

    # What a folder without a word of its own means: the class in tokenizer_config.json, and the chat
    # template.
    tokenizer_class: str
    chat_template: str | None = None

    def network(self, model: nn.Module, weights: Weights, precision: str, folder: Path) -> nn.Module:
        """Our network with the tensors of transformers' `model`, taken from `weights` one by one."""
        raise NotImplementedError

    def repeats(self, name: str, tensor: Tensor, model: nn.Module) -> bool:
        """Whether a checkpoint's tensor only says again what the model has already."""
        table = model.get_input_embeddings().weight
        return name == "lm_head.weight" and torch.equal(tensor.float(), table.float())

    def context_tokens(self, config, folder: Path) -> int:
        return config.max_position_embeddings

    def check_tokenizer(self, spec: dict, folder: Path) -> None:
        """Throws Refused where the folder wants of a text what its tokenizer does not do."""

    def architecture(self, model: nn.Module, network: nn.Module, folder: Path) -> dict:
        """The fields of metadata.json that the network's arithmetic goes by."""
        config = model.config
        heads, width = config.num_attention_heads, config.hidden_size
        return {
            "family": self.name,
            "shape": {
                "layers": config.num_hidden_layers, "heads": heads,
                "kv_heads": getattr(config, "num_key_value_heads", heads) or heads,
                "head_dim": getattr(config, "head_dim", None) or width // heads,
                "width": width, "vocab": config.vocab_size,
                "parameters": sum(
                    p.numel() for n, p in model.named_parameters() if not self.ignores_tensor(n)
                ),
            },
            "context_tokens": self.context_tokens(config, folder),
        }

    def ignores_tensor(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.ignored_tensors)


def family(name: str) -> Callable[[type], type]:
    """Registers a class as the family of that model_type."""
    def register(kind: type) -> type:
        if name in FAMILIES:
            raise ValueError(f"two families of the name {name}")
        FAMILIES[name] = kind()
        FAMILIES[name].name = name
        return kind

    return register
