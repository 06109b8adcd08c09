"""Every key of config.json is computed with, is known to change no result, or is refused by name."""

import pytest


@pytest.mark.parametrize("kind, key, value", [
    ("gpt2", "activation_function", "gelu"), ("gpt2", "scale_attn_weights", False),
    ("gpt2", "scale_attn_by_inverse_layer_idx", True), ("gpt2", "sliding_window", 32),
    ("gpt2", "add_cross_attention", True), ("gpt2", "pruned_heads", {"0": [1]}),
    ("llama", "hidden_act", "gelu"), ("llama", "sliding_window", 32), ("llama", "logit_scale", 2.0),
    ("llama", "rope_interleaved", True), ("llama", "auto_map", {"AutoModel": "modeling.Mine"}),
    ("llama", "attn_logit_softcapping", 30.0), ("llama", "is_encoder_decoder", True),
    ("bert", "hidden_act", "gelu_new"), ("bert", "position_embedding_type", "relative_key"),
    ("bert", "is_decoder", True), ("bert", "embedding_size", 24),
])
def test_a_key_that_no_network_computes_with_is_refused_by_name(lab, kind, key, value):
    path = getattr(lab, kind)()
    lab.configure(path, **{key: value})
    lab.refused(path, 2, key)


@pytest.mark.parametrize("name, rope", [
    ("rope_type", {"rope_type": "dynamic", "factor": 2.0}),
    ("type", {"type": "dynamic", "factor": 2.0}),
    ("rope_type", {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}),
    ("partial_rotary_factor", {"rope_type": "default", "partial_rotary_factor": 0.5}),
    ("a_new_key", {"rope_type": "linear", "factor": 2.0, "a_new_key": 1}),
])
@pytest.mark.parametrize("at", ["rope_scaling", "rope_parameters"])
def test_angles_that_one_table_does_not_hold_are_refused(lab, at, name, rope):
    path = lab.llama()
    lab.configure(path, rope_parameters=None)
    lab.configure(path, **{at: {"rope_theta": 10000.0} | rope})
    lab.refused(path, 2, f"{at}.{name}" if name != "type" else at)


def test_angles_that_one_table_holds_are_exported(lab):
    path = lab.llama()
    for rope in ({"rope_type": "linear", "factor": 2.0},
                 {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                  "high_freq_factor": 4.0, "original_max_position_embeddings": 48}):
        lab.configure(path, rope_parameters=None, rope_theta=10000.0, rope_scaling=rope)
        lab.exported(path)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_keys_that_change_no_result_and_unknown_ones_of_null_refuse_nothing(lab, kind):
    path = getattr(lab, kind)()
    lab.configure(
        path, **{"transformers.js_config": {"dtype": "q4"}}, torch_dtype="float16", num_labels=3,
        task_specific_params={"conversational": {"max_length": 1000}}, unsloth_version="1",
        do_sample=True, max_length=50, _commit_hash="00", quantization_config=None, a_new_key=None,
        gradient_checkpointing=False,
    )
    lab.exported(path)


def test_old_names_of_keys_count_as_the_new_ones(lab):
    path = lab.gpt2()
    lab.configure(path, hidden_size=32, num_hidden_layers=2, n_ctx=96)
    lab.exported(path)
