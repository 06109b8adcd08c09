"""Llama: rotary positions, RMS norms before each half, a gated SiLU, grouped heads."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..family import ANY, Family, family
from ..layers import SILU_MULTIPLY, Attention, Layer, Linear, Norm, interleave, joined, untied
from ..networks import SPARE_ROWS, CausalLm
from ..weights import Weights

# Those whose angles do not depend on a text's length: one table serves every text.
ROPE_TYPES = ("default", "linear", "llama3", "yarn")
ROPE_KEYS = {
    "rope_type": ROPE_TYPES, "type": ROPE_TYPES, "rope_theta": ANY, "factor": ANY,
    "original_max_position_embeddings": ANY, "low_freq_factor": ANY, "high_freq_factor": ANY,
    "attention_factor": ANY, "beta_fast": ANY, "beta_slow": ANY, "mscale": ANY,
    "mscale_all_dim": ANY, "truncate": ANY, "partial_rotary_factor": (1,),
}


@family("llama")
class Llama(Family):
    title = "Llama, SmolLM2, TinyLlama"
    keys = {
        "vocab_size": ANY, "max_position_embeddings": ANY, "hidden_size": ANY,
        "intermediate_size": ANY, "num_hidden_layers": ANY, "num_attention_heads": ANY,
        "num_key_value_heads": ANY, "head_dim": ANY, "rms_norm_eps": ANY, "hidden_act": ("silu", "swish"),
        "attention_bias": ANY, "mlp_bias": ANY, "rope_theta": ANY, "rope_interleaved": (False,),
        # Before transformers 5, and since.
        **{f"rope_scaling.{key}": values for key, values in ROPE_KEYS.items()},
        **{f"rope_parameters.{key}": values for key, values in ROPE_KEYS.items()},
    }
    ignored_keys = {
        "pretraining_tp": "cuts the same sums",
        "max_sequence_length": "an old name; max_position_embeddings is the context",
        "attention_dropout": "training",
        "is_llama_config": "says what model_type says",
    }
    gguf = "llama"
    gguf_names = {
        "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
        "blk.N.attn_q": "model.layers.N.self_attn.q_proj",
        "blk.N.attn_k": "model.layers.N.self_attn.k_proj",
        "blk.N.attn_v": "model.layers.N.self_attn.v_proj",
        "blk.N.attn_output": "model.layers.N.self_attn.o_proj",
        "blk.N.attn_norm": "model.layers.N.input_layernorm",
        "blk.N.ffn_norm": "model.layers.N.post_attention_layernorm",
        "blk.N.ffn_gate": "model.layers.N.mlp.gate_proj",
        "blk.N.ffn_up": "model.layers.N.mlp.up_proj",
        "blk.N.ffn_down": "model.layers.N.mlp.down_proj",
    }
    gguf_paired = {"blk.N.attn_q": "num_attention_heads", "blk.N.attn_k": "num_key_value_heads"}
    tokenizer_class = "GPT2Tokenizer"  # where it has no tokenizer.json and no tokenizer.model

    def network(self, model: nn.Module, weights: Weights, precision: str, folder: Path) -> CausalLm:
        config, body = model.config, weights.below("model")
        head, embed = weights["lm_head.weight"], body["embed_tokens.weight"]
        # The reference's own tables: its angles, and whatever scaling its config asks for.
        where = torch.arange(config.max_position_embeddings + SPARE_ROWS).unsqueeze(0)
        cos, sin = model.model.rotary_emb(torch.empty(1, dtype=torch.float32), where)
        return CausalLm(
            [
                layer(config, body.below(f"layers.{i}"), precision)
                for i in range(config.num_hidden_layers)
            ],
            Norm(*body.pair("norm"), config.rms_norm_eps), Linear(head, None, precision),
            untied(embed, head, precision), rotary=(cos[0], sin[0]),
        )

    def repeats(self, name: str, tensor: Tensor, model: nn.Module) -> bool:
        if name.endswith("rotary_emb.inv_freq"):
            expected = model.model.rotary_emb.inv_freq
            return torch.allclose(tensor.float(), expected.float(), rtol=1e-3)
        return super().repeats(name, tensor, model)


def layer(config, block: Weights, precision: str) -> Layer:
    attn, mlp = block.below("self_attn"), block.below("mlp")
    (gate, gate_bias), (up, up_bias) = mlp.pair("gate_proj"), mlp.pair("up_proj")
    return Layer(
        Norm(*block.pair("input_layernorm"), config.rms_norm_eps),
        joined([attn.pair("q_proj"), attn.pair("k_proj"), attn.pair("v_proj")], precision),
        Attention(config.num_attention_heads, causal=True), Linear(*attn.pair("o_proj"), precision),
        Norm(*block.pair("post_attention_layernorm"), config.rms_norm_eps),
        Linear(
            interleave(gate, up), None if gate_bias is None else interleave(gate_bias, up_bias),
            precision, SILU_MULTIPLY,
        ),
        Linear(*mlp.pair("down_proj"), precision), norm_first=True,
    )
