"""GGUF files in fp32, made from the same weights, for llama.cpp."""

import json
import os
from pathlib import Path


def write_gguf(source: Path, out: Path) -> None:
    partial = out.with_suffix(".partial")
    (copy_gguf if source.is_file() else write_gpt2_gguf)(source, partial)
    os.replace(partial, out)


def finish_gguf(writer) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def copy_gguf(source: Path, out: Path) -> None:
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    own = {"general.architecture", "general.file_type", "general.quantization_version"}
    for field in reader.fields.values():
        if field.name in own or field.name.startswith("GGUF."):
            continue
        of = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=of)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    finish_gguf(writer)


def write_gpt2_gguf(source: Path, out: Path) -> None:
    import gguf
    import torch

    config = json.loads((source / "config.json").read_text())
    weights = torch.load(source / "pytorch_model.bin", weights_only=True, map_location="cpu")
    weights = {name.removeprefix("transformer."): w.float() for name, w in weights.items()}
    words = json.loads((source / "vocab.json").read_text())
    merges = (source / "merges.txt").read_text().splitlines()
    writer = gguf.GGUFWriter(out, "gpt2")
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    pieces = sorted(words, key=words.__getitem__)
    writer.add_token_list(pieces)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(pieces))
    writer.add_token_merges([m for m in merges if m and not m.startswith("#version")])
    writer.add_eos_token_id(config["eos_token_id"])
    parts = {
        "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
        "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    }
    names = {"wte.weight": "token_embd.weight", "wpe.weight": "position_embd.weight"}
    for end in ["weight", "bias"]:
        names[f"ln_f.{end}"] = f"output_norm.{end}"
        for layer in range(config["n_layer"]):
            for part, name in parts.items():
                names[f"h.{layer}.{part}.{end}"] = f"blk.{layer}.{name}.{end}"
    for ours, theirs in names.items():
        weight = weights[ours]
        if ".c_" in ours and weight.dim() == 2:  # Conv1D: [in, out]
            weight = weight.t()
        writer.add_tensor(theirs, weight.contiguous().numpy())
    writer.add_tensor("output.weight", weights["wte.weight"].contiguous().numpy())
    finish_gguf(writer)
