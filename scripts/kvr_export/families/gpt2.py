"""GPT-2: learned positions, norms before each half, GELU by tanh, a tied head."""

from pathlib import Path

import torch.nn.functional as F
from torch import nn

from ..family import ANY, Family, family
from ..layers import GELU_TANH, NONE, Attention, Layer, Linear, Norm, untied
from ..networks import SPARE_ROWS, CausalLm
from ..weights import Weights


@family("gpt2")
class Gpt2(Family):
    title = "GPT-2, DialoGPT"
    keys = {
        "vocab_size": ANY, "n_positions": ANY, "n_embd": ANY, "n_layer": ANY, "n_head": ANY,
        "n_inner": ANY, "layer_norm_epsilon": ANY,
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    }
    ignored_keys = {
        "n_ctx": "the size of an old mask; n_positions is the context",
        "(resid|embd|attn)_pdrop": "training",
        "summary_.*": "a classifier's head",
        "reorder_and_upcast_attn": "the same sums in fp32",
    }
    ignored_tensors = {r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)": "the causal mask"}
    gguf = "gpt2"
    gguf_names = {
        "token_embd": "transformer.wte", "position_embd": "transformer.wpe",
        "output_norm": "transformer.ln_f", "output": "lm_head",
        "blk.N.attn_norm": "transformer.h.N.ln_1", "blk.N.ffn_norm": "transformer.h.N.ln_2",
        "blk.N.attn_qkv": "transformer.h.N.attn.c_attn",
        "blk.N.attn_output": "transformer.h.N.attn.c_proj",
        "blk.N.ffn_up": "transformer.h.N.mlp.c_fc", "blk.N.ffn_down": "transformer.h.N.mlp.c_proj",
    }
    gguf_turned = ("blk.N.attn_qkv", "blk.N.attn_output", "blk.N.ffn_up", "blk.N.ffn_down")
    tokenizer_class = "GPT2Tokenizer"
    # DialoGPT's turns, and GPT-2's documents, end in the end-of-text token.
    chat_template = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"

    def network(self, model: nn.Module, weights: Weights, precision: str, folder: Path) -> CausalLm:
        config, body = model.config, weights.below("transformer")
        head, embed = weights["lm_head.weight"], body["wte.weight"]
        return CausalLm(
            [layer(config, body.below(f"h.{i}"), precision) for i in range(config.n_layer)],
            Norm(*body.pair("ln_f"), config.layer_norm_epsilon), Linear(head, None, precision),
            untied(embed, head, precision),
            positions=F.pad(body["wpe.weight"], [0, 0, 0, SPARE_ROWS]),
        )


def layer(config, block: Weights, precision: str) -> Layer:
    def linear(name: str, activation: int = NONE) -> Linear:
        weight, bias = block.pair(name)
        return Linear(weight.t(), bias, precision, activation)  # Conv1D: [in, out]

    eps = config.layer_norm_epsilon
    return Layer(
        Norm(*block.pair("ln_1"), eps), linear("attn.c_attn"),
        Attention(config.n_head, causal=True), linear("attn.c_proj"),
        Norm(*block.pair("ln_2"), eps), linear("mlp.c_fc", GELU_TANH), linear("mlp.c_proj"),
        norm_first=True,
    )
