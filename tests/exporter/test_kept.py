"""--precision source: a quantized file's own numbers, with the bits of the fp32 archive."""

import pytest
import tiny_gguf
import torch
import transformers
from kvr_export import gguf_blocks, parity
from kvr_export.layers import load_kernels


def tiny(lab, kind, **settings):
    """A Llama; `kind`: the type of all matrices, or what says it of a tensor's name."""
    torch.manual_seed(2)
    config = transformers.LlamaConfig(**{
        "vocab_size": 300, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96,
        "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": True, "initializer_range": 0.1,
    } | settings)
    model = transformers.LlamaForCausalLM(config)
    tensors = tiny_gguf.llama_tensors(model)
    if not config.tie_word_embeddings:
        tensors["output.weight"] = model.lm_head.weight.detach().numpy()
    types = kind if callable(kind) else lambda name: None if "norm" in name else kind
    return tiny_gguf.write(lab.folder / "m.gguf", "llama", config, tensors, types=types)


def logits(network, metadata, native: bool) -> list[torch.Tensor]:
    """Of 40 tokens at once, and of 5 more one by one."""
    if native and not load_kernels():
        pytest.skip("this CPU runs torch's kernels only")
    network.prepare(128, native)
    shape = metadata["shape"]
    keys, values = (
        torch.zeros(shape["layers"], shape["kv_heads"], 128, shape["head_dim"]) for _ in range(2)
    )
    with torch.no_grad():
        found = [network.all_logits(torch.arange(40) * 7 % 300, 0, keys, values)]
        found += [network.decode(torch.tensor([i]), 40 + i, keys, values) for i in range(5)]
    return found


def types_of(network) -> set[tuple]:
    """Of the layers' panels and scales."""
    return {
        (b.dtype, dict(network.named_buffers())[n.replace("panels", "scales")].dtype)
        for n, b in network.named_buffers() if n.endswith("panels")
    }


def same_bits(lab, path, native: bool = True):
    """The archive's network and metadata, and its size over fp32's."""
    expected = logits(*lab.exported(path), native)
    full = lab.out.stat().st_size
    network, metadata = lab.exported(path, "--precision", "source")
    for ours, theirs in zip(logits(network, metadata, native), expected, strict=True):
        assert torch.equal(ours, theirs)
    # As it was before it was prepared.
    return torch.jit.load(str(lab.out)), metadata, lab.out.stat().st_size / full


@pytest.mark.parametrize("kind, types", [
    ("Q4_0", {(torch.uint8, torch.half)}), ("Q4_1", {(torch.uint8, torch.half)}),
    ("Q8_0", {(torch.int8, torch.half)}), ("Q4_K", {(torch.uint8, torch.float)}),
    ("Q6_K", {(torch.int8, torch.float)}),
])
@pytest.mark.parametrize("native", [True, False])
def test_the_bits_are_fp32s(lab, kind, types, native):
    network, metadata, share = same_bits(lab, tiny(lab, kind), native)
    assert metadata["precision"] == "source"
    if "kernels" in metadata["parity"]:
        assert metadata["parity"]["kernels"]["bits_equal_positions"] >= 8192
    assert types_of(network) == types
    assert share < 0.55


def test_blocks_that_give_other_values_are_found(lab, monkeypatch):
    size, right = gguf_blocks.TYPES["Q4_1"]

    def wrong(rows):
        blocks = right(rows)
        blocks.scales[0, 0] *= 2
        return blocks

    monkeypatch.setitem(gguf_blocks.TYPES, "Q4_1", (size, wrong))
    status, said = lab.run(tiny(lab, "Q4_1"), "--precision", "source")
    assert status == 2
    assert "do not give its values" in said


def test_logits_that_are_not_fp32s_are_found(lab):
    if not load_kernels():
        pytest.skip("this CPU runs torch's kernels only")
    network, metadata = lab.exported(tiny(lab, "Q4_1"), "--precision", "source")
    other = torch.jit.load(str(lab.out))
    dict(other.named_parameters())["norm.weight"].data[0] *= 1.0001
    with pytest.raises(parity.Different):
        parity.same_bits(network, other, metadata)


def test_matrices_that_lie_the_other_way_are_found(lab):
    torch.manual_seed(2)
    config = transformers.GPT2Config(
        vocab_size=300, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.3,
    )
    path = tiny_gguf.write(
        lab.folder / "m.gguf", "gpt2", config,
        tiny_gguf.gpt2_tensors(transformers.GPT2LMHeadModel(config)),
        types=lambda n: "Q4_1" if n.endswith("weight") and "norm" not in n and "position" not in n else None,
    )
    assert types_of(same_bits(lab, path)[0]) == {(torch.uint8, torch.half)}


def test_a_head_of_its_own(lab):
    network, _, _ = same_bits(lab, tiny(lab, "Q8_0", tie_word_embeddings=False))
    assert types_of(network) == {(torch.int8, torch.half)}
    assert dict(network.named_parameters())["embed"].dtype == torch.float  # only looked up


def test_layers_of_several_types_are_joined_in_the_wider_one(lab):
    """As in the mixtures that llama.cpp makes: values and the way down in Q6_K, the rest in Q4_K."""
    def mixture(name):
        if "norm" in name:
            return None
        if name == "blk.1.ffn_gate.weight":
            return "Q8_0"
        return "Q6_K" if "attn_v" in name or "ffn_down" in name else "Q4_K"

    same_bits(lab, tiny(lab, mixture))


def test_a_layer_that_is_not_quantized_as_a_whole_stays_fp32(lab):
    path = tiny(lab, lambda name: "Q4_1" if "ffn_" in name or "attn_q" in name else None)
    network, _ = lab.exported(path, "--precision", "source")
    assert types_of(network) == {(torch.uint8, torch.half), (torch.float, torch.float)}


@pytest.mark.parametrize("source", ["folder", "file", "seed"])
def test_what_is_not_quantized_is_refused(lab, source):
    path = lab.llama() if source == "folder" else tiny(lab, lambda name: None)
    options = ["--random"] if source == "seed" else []
    status, said = lab.run(path, "--precision", "source", *options)
    assert status == 2
    assert "Q4_1" in said
