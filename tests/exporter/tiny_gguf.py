"""Writes tiny GGUF files as llama.cpp's converter does, from transformers' models."""

import json
from pathlib import Path

import gguf
import numpy as np
from make_tiny_models import byte_bpe

LLAMA = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GPT2 = {
    "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
}


def llama_tensors(model, paired: bool = True) -> dict[str, np.ndarray]:
    state = {n: t.numpy() for n, t in model.state_dict().items()}
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    tensors = {"token_embd.weight": state["model.embed_tokens.weight"],
               "output_norm.weight": state["model.norm.weight"]}
    for i in range(model.config.num_hidden_layers):
        for ours, theirs in LLAMA.items():
            for kind in ("weight", "bias"):
                values = state.get(f"model.layers.{i}.{theirs}.{kind}")
                if values is None:
                    continue
                if paired and ours in heads:
                    shape, n = values.shape, heads[ours]
                    values = values.reshape(n, 2, shape[0] // n // 2, *shape[1:])
                    values = values.swapaxes(1, 2).reshape(shape)
                tensors[f"blk.{i}.{ours}.{kind}"] = values
    return tensors


def gpt2_tensors(model) -> dict[str, np.ndarray]:
    state = {n.removeprefix("transformer."): t.numpy() for n, t in model.state_dict().items()}
    tensors = {"token_embd.weight": state["wte.weight"], "position_embd.weight": state["wpe.weight"],
               "output_norm.weight": state["ln_f.weight"], "output_norm.bias": state["ln_f.bias"],
               "output.weight": state["lm_head.weight"]}
    for i in range(model.config.n_layer):
        for ours, theirs in GPT2.items():
            tensors[f"blk.{i}.{ours}.weight"] = state[f"h.{i}.{theirs}.weight"].T
            tensors[f"blk.{i}.{ours}.bias"] = state[f"h.{i}.{theirs}.bias"]
    return tensors


def write(
    path: Path, architecture: str, config, tensors: dict[str, np.ndarray], extra=None, types=None
) -> Path:
    """`extra` is called with the writer, to add keys; `types`, with a tensor's name, says of what type
    a tensor is (default: fp32 all)."""
    bpe = path.parent / "bpe"
    if not bpe.exists():
        bpe.mkdir()
        byte_bpe(bpe, config.vocab_size)
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if architecture == "gpt2":
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_rope_freq_base(10000.0)
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    add_tokenizer(writer, bpe)
    if extra:
        extra(writer)
    for name, values in tensors.items():
        values = np.ascontiguousarray(values, dtype=np.float32)
        kind = types(name) if types else None
        if kind is None:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, blocks(values, kind), raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def blocks(values: np.ndarray, kind: str) -> np.ndarray:
    """Of the K-types, for which the library has no quantizer, noise of about the values' size."""
    of = gguf.GGMLQuantizationType[kind]
    if not kind.endswith("_K"):
        return gguf.quants.quantize(values, of)
    count, size = gguf.GGML_QUANT_SIZES[of]
    random = np.random.default_rng(values.size)
    raw = random.integers(0, 256, (*values.shape[:-1], values.shape[-1] // count, size), dtype=np.uint8)
    for at in {"Q4_K": (0, 2), "Q6_K": (208,)}[kind]:
        scale = random.uniform(0.5, 1, raw.shape[:-1]) * values.std() / 256
        raw[..., at : at + 2] = scale.astype(np.float16)[..., None].view(np.uint8)
    return raw.reshape(*values.shape[:-1], -1)


def add_tokenizer(writer: gguf.GGUFWriter, bpe: Path) -> None:
    ids = json.loads((bpe / "vocab.json").read_text())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(ids, key=ids.get))
    writer.add_token_types([3] + [1] * (len(ids) - 1))
    merges = (bpe / "merges.txt").read_text().splitlines()
    writer.add_token_merges([m for m in merges if not m.startswith("#version")])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
