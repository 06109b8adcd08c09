"""Qwen2 against transformers, on a tiny seeded model: biases on q, k and v, grouped heads, tied head."""

import pytest
import tiny_gguf
import torch
import transformers

SETTINGS = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 160,
    "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": True, "initializer_range": 0.2,
}


def seeded_model():
    torch.manual_seed(11)
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SETTINGS)).eval()
    with torch.no_grad():  # transformers starts biases at 0, where a lost one would not be seen
        for name, tensor in model.named_parameters():
            if name.endswith(".bias"):
                tensor.normal_(std=0.5)
    return model


@pytest.fixture
def folder(lab):
    path = lab.language_model("m", transformers.Qwen2ForCausalLM, transformers.Qwen2Config, SETTINGS)
    seeded_model().save_pretrained(path)
    (path / "generation_config.json").unlink(missing_ok=True)
    lab.tokenizer(path)
    return path


def logits_of(network, ids):
    buffers = [torch.zeros(3, 2, 128, 16) for _ in range(2)]
    return network.all_logits(ids, 0, *buffers), buffers


def test_logits_and_greedy_tokens_are_transformers(lab, folder):
    network, metadata = lab.exported(folder)
    assert metadata["family"] == "qwen2"
    for way in ("torch", "kernels"):
        if way in metadata["parity"]:  # without AVX2 there are no kernels
            assert metadata["parity"][way]["greedy_tokens_equal"] == 32
            assert metadata["parity"][way]["max_abs_logit_diff"] <= 1e-3
    # The same by this test's own reading, on a model that no file has been through.
    network.prepare(128, False)
    ids = torch.randint(0, 300, (90,), generator=torch.Generator().manual_seed(12))
    model = seeded_model()
    with torch.no_grad():
        found, buffers = logits_of(network, ids)
        torch.testing.assert_close(found, model(ids[None]).logits[0], atol=1e-3, rtol=0)
        logits, tokens = found[-1], []
        for past in range(90, 122):
            tokens.append(int(logits.argmax()))
            logits = network.decode(torch.tensor(tokens[-1:]), past, *buffers)
        expected = model.generate(
            ids[None], max_new_tokens=32, min_new_tokens=32, do_sample=False, pad_token_id=0,
            eos_token_id=-1, attention_mask=torch.ones_like(ids[None]),
        )
    assert tokens == expected[0, 90:].tolist()


def test_the_biases_count(lab, folder):
    network, _ = lab.exported(folder)
    lab.edit(folder, lambda s: {n: t * (0 if n.endswith("k_proj.bias") else 1) for n, t in s.items()})
    other, _ = lab.exported(folder)
    with torch.no_grad():
        for each in (network, other):
            each.prepare(128, False)
        ids = torch.arange(40)
        assert (logits_of(network, ids)[0] - logits_of(other, ids)[0]).abs().max() > 0.01


def test_what_its_network_does_not_compute_is_refused_by_name(lab, folder):
    config = (folder / "config.json").read_bytes()
    for key, value in {
        # Of 4096 tokens: the parity check, with its 200, would see none of it.
        "use_sliding_window": True, "layer_types": ["full_attention"] * 2 + ["sliding_attention"],
        "attention_bias": True, "hidden_act": "gelu", "dual_chunk_attention_config": {"chunk_size": 64},
    }.items():
        lab.configure(folder, sliding_window=4096, max_window_layers=1, **{key: value})
        lab.refused(folder, 2, key)
        (folder / "config.json").write_bytes(config)
    lab.configure(folder, sliding_window=4096, max_window_layers=1)
    lab.exported(folder)


def test_a_missing_bias_or_a_qwen3s_norm_is_refused_by_name(lab, folder):
    weights = (folder / "model.safetensors").read_bytes()
    name = "model.layers.1.self_attn.k_proj.bias"
    lab.edit(folder, lambda s: {n: t for n, t in s.items() if n != name})
    lab.refused(folder, 3, name)
    (folder / "model.safetensors").write_bytes(weights)
    name = "model.layers.0.self_attn.q_norm.weight"
    lab.edit(folder, lambda s: s | {name: torch.ones(16)})
    lab.refused(folder, 2, name)


def test_vocab_json_without_tokenizer_json_is_not_taken_for_gpt2s(lab, folder):
    (folder / "tokenizer_config.json").unlink()
    lab.refused(folder, 2, "Qwen2Tokenizer")


def test_a_gguf_file_has_the_rows_in_order(lab, folder):
    _, from_folder = lab.exported(folder)
    model = seeded_model()
    tensors = tiny_gguf.llama_tensors(model, paired=False)
    path = tiny_gguf.write(lab.folder / "m.gguf", "qwen2", model.config, tensors)
    _, from_gguf = lab.exported(path)
    assert from_gguf["weights_sha256"] == from_folder["weights_sha256"]
