"""BERT sentence encoders: learned positions, norms behind each half, attention both ways."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import files
from ..family import ANY, Family, family
from ..layers import GELU, NONE, Attention, Layer, Linear, Norm, constant, joined
from ..refused import Refused
from ..weights import Weights


@family("bert")
class Bert(Family):
    title = "MiniLM encoders"
    encoder = True
    precisions = ("fp32",)
    keys = {
        "vocab_size": ANY, "max_position_embeddings": ANY, "hidden_size": ANY,
        "intermediate_size": ANY, "num_hidden_layers": ANY, "num_attention_heads": ANY,
        "type_vocab_size": ANY, "layer_norm_eps": ANY, "hidden_act": ("gelu",),
        "position_embedding_type": ("absolute",), "is_decoder": (False,),
        "add_cross_attention": (False,),
    }
    ignored_keys = {
        "hidden_dropout_prob|attention_probs_dropout_prob|classifier_dropout": "training",
        "pooler_.*|directionality": "a head of training",
    }
    ignored_tensors = {
        r"(bert\.)?embeddings\.position_ids": "0, 1, 2, ...",
        r"(bert\.)?pooler\..*|cls\..*": "heads of training",
    }
    tokenizer_class = "BertTokenizer"

    def network(self, model: nn.Module, weights: Weights, precision: str, folder: Path) -> "Encoder":
        config, table = model.config, weights.below("embeddings")
        return Encoder(
            table["word_embeddings.weight"],
            # One sentence: every token is of type 0.
            table["position_embeddings.weight"] + table["token_type_embeddings.weight"][0],
            Norm(*table.pair("LayerNorm"), config.layer_norm_eps),
            [
                layer(config, weights.below(f"encoder.layer.{i}"), precision)
                for i in range(config.num_hidden_layers)
            ],
            config.num_attention_heads, pooling(folder),
        )

    def context_tokens(self, config, folder: Path) -> int:
        # What the sentence encoder was trained to read, where its folder says so.
        limit = sentence_settings(folder).get("max_seq_length")
        return min(config.max_position_embeddings, limit or config.max_position_embeddings)

    def check_tokenizer(self, spec: dict, folder: Path) -> None:
        if sentence_settings(folder).get("do_lower_case") and not spec["lowercase"]:
            raise Refused(f"{folder}: sentence_bert_config.json says do_lower_case, and the tokenizer "
                          "does not: not supported")

    def architecture(self, model: nn.Module, network: nn.Module, folder: Path) -> dict:
        return super().architecture(model, network, folder) | {"pooling": network.pooling}


class Encoder(nn.Module):
    """ids [T] -> embedding [width] of unit length: the mean over the tokens, or the first one's
    ("cls")."""

    def __init__(
        self, words: Tensor, positions: Tensor, norm: Norm, layers: list[Layer], heads: int,
        pooling: str,
    ):
        super().__init__()
        self.pooling: str = pooling
        self.heads: int = heads
        self.words, self.positions = constant(words), constant(positions)
        self.norm = norm
        self.layers = nn.ModuleList(layers)

    def forward(self, ids: Tensor) -> Tensor:
        count = ids.size(0)
        x = self.norm(F.embedding(ids, self.words) + self.positions.narrow(0, 0, count))
        # Each layer's keys and values, needed no longer than the layer.
        keys = torch.empty([self.heads, count, x.size(1) // self.heads], device=x.device)
        values, none = torch.empty_like(keys), torch.empty(0)
        for layer in self.layers:
            x = layer(x, count, 0, count, keys, values, None, none, none)
        pooled = x[0] if self.pooling == "cls" else x.mean(dim=0)
        return F.normalize(pooled, dim=0)

    @torch.jit.export
    def prepare(self, native: bool) -> None:
        self.norm.native = native
        for layer in self.layers:
            layer.prepare(native)


def layer(config, block: Weights, precision: str) -> Layer:
    def linear(name: str, activation: int = NONE) -> Linear:
        return Linear(*block.pair(name), precision, activation)

    eps, attn = config.layer_norm_eps, block.below("attention.self")
    return Layer(
        Norm(*block.pair("attention.output.LayerNorm"), eps),
        joined([attn.pair("query"), attn.pair("key"), attn.pair("value")], precision),
        Attention(config.num_attention_heads, causal=False), linear("attention.output.dense"),
        Norm(*block.pair("output.LayerNorm"), eps), linear("intermediate.dense", GELU),
        linear("output.dense"), norm_first=False,
    )


def sentence_settings(folder: Path) -> dict:
    """sentence_bert_config.json, where there is one."""
    file = folder / "sentence_bert_config.json"
    settings = files.read_json(file) if file.is_file() else {}
    harmless = {"transformer_task", "modality_config", "module_output_name", "unpad_inputs"}
    for key, value in settings.items():
        if value and key not in {"max_seq_length", "do_lower_case"} | harmless:
            raise Refused(f"{file}: the key {key} ({value}) is not supported")
    return settings


def pooling(folder: Path) -> str:
    """How a sentence encoder's folder pools: "mean", also where it does not say, or "cls"."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return "mean"
    parts = files.read_json(modules, list)
    kinds = [str(part.get("type", "")).rpartition(".")[2] for part in parts]
    for kind in kinds:
        if kind not in ("Transformer", "Pooling", "Normalize"):
            raise Refused(f"{modules}: the module {kind} is not supported")
    if "Pooling" not in kinds:
        raise Refused(f"{modules}: no module Pooling; supported are mean and cls")
    file = folder / parts[kinds.index("Pooling")].get("path", "") / "config.json"
    settings = files.read_json(file)
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
    prompts = folder / "config_sentence_transformers.json"
    if prompts.is_file() and (name := files.read_json(prompts).get("default_prompt_name")):
        raise Refused(f"{prompts}: the default prompt {name!r} is not supported")
    return known[modes.pop()]
