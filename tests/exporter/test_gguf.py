"""GGUF files: every key and every tensor of one is in the archive, or is refused by name."""

import gguf
import numpy as np
import pytest
import tiny_gguf
import torch
import transformers


@pytest.fixture
def write(lab):
    """Writes a tiny Llama; `extra` adds keys, `add` tensors, `drop` leaves one out."""
    torch.manual_seed(2)
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=96, bos_token_id=0,
        eos_token_id=0, tie_word_embeddings=True, initializer_range=0.3,
    )
    tensors = tiny_gguf.llama_tensors(transformers.LlamaForCausalLM(config))

    def make(name: str = "m", extra=None, add=None, drop: str | None = None):
        kept = {n: t for n, t in tensors.items() if n != drop} | (add or {})
        return tiny_gguf.write(lab.folder / f"{name}.gguf", "llama", config, kept, extra)

    return make


def test_a_whole_file_is_exported(lab, write):
    lab.exported(write())


def test_gpt2s_matrices_lie_the_other_way_square_ones_too(lab):
    torch.manual_seed(2)
    config = transformers.GPT2Config(
        vocab_size=300, n_embd=32, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0, initializer_range=0.3,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    path = tiny_gguf.write(lab.folder / "m.gguf", "gpt2", config, tiny_gguf.gpt2_tensors(model))
    network, metadata = lab.exported(path)
    network.prepare(128, False)
    ids = torch.arange(20)
    with torch.no_grad():
        found = network.all_logits(ids, 0, torch.zeros(2, 2, 128, 16), torch.zeros(2, 2, 128, 16))
        torch.testing.assert_close(found, model(ids[None]).logits[0], atol=1e-4, rtol=0)


def test_what_a_file_lacks_is_named(lab, write):
    lab.refused(write(drop="blk.1.ffn_down.weight"), 3, "mlp.down_proj")


@pytest.mark.parametrize("name, size, said", [
    ("rope_freqs.weight", 8, "rope_freqs"), ("blk.0.attn_q.bias", 64, "q_proj.bias"),
    ("blk.1.attn_v.bias", 32, "v_proj.bias"), ("blk.2.attn_norm.weight", 64, "layers.2"),
])
def test_what_a_file_has_beyond_is_named(lab, write, name, size, said):
    path = write(add={name: np.full(size, 2, np.float32)})
    status, message = lab.run(path)
    assert status in (2, 3), message
    assert said in message


@pytest.mark.parametrize("word, extra", {
    "rope.scaling": lambda w: (
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR), w.add_rope_scaling_factor(4.0)),
    "parts": lambda w: w.add_uint16("split.count", 2),
    "llama.logit_scale": lambda w: w.add_logit_scale(2.0),
    "llama.attention.sliding_window": lambda w: w.add_sliding_window(32),
    "llama.attention.key_length": lambda w: w.add_key_length(32),
    "tokenizer.ggml.add_eos_token": lambda w: w.add_add_eos_token(True),
    "tokenizer.ggml.a_new_key": lambda w: w.add_bool("tokenizer.ggml.a_new_key", True),
}.items())
def test_a_key_that_changes_what_comes_out_is_refused_by_name(lab, write, word, extra):
    status, said = lab.run(write(extra=extra))
    assert status in (2, 3), said
    assert word in said


def test_keys_of_the_tokenizer_that_are_off_or_are_notes_refuse_nothing(lab, write):
    def extra(w):
        w.add_add_eos_token(False)
        w.add_remove_extra_whitespaces(False)
        w.add_eot_token_id(0)
        w.add_string("tokenizer.huggingface.json", "{}")

    lab.exported(write(extra=extra))


def test_a_cut_file_or_a_pointer_is_refused(lab, write):
    whole = write("whole").read_bytes()
    cut = lab.folder / "cut.gguf"
    for part in (0, 5000, len(whole) * 2 // 3):
        cut.write_bytes(whole[:part])
        lab.refused(cut, 3, "cut.gguf")
    cut.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    lab.refused(cut, 3, "LFS")
