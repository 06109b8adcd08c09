"""Every tensor of a checkpoint is in the archive, or is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file


def test_masks_and_a_tied_head_may_lie_in_a_whole_checkpoint(lab):
    path = lab.gpt2()
    lab.edit(path, lambda s: s | {
        "h.0.attn.bias": torch.ones(1, 1, 96, 96),
        "lm_head.weight": s["transformer.wte.weight"].clone(),
    })
    lab.exported(path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "0.auto_model."])
def test_a_wrappers_prefix_is_refused_by_name(lab, prefix):
    path = lab.gpt2()
    lab.edit(path, lambda s: {prefix + n: t for n, t in s.items()})
    lab.refused(path, 3, prefix)


@pytest.mark.parametrize("name", ["h.1.mlp.c_fc.weight", "h.0.ln_1.bias", "wte.weight", "ln_f.weight"])
def test_what_the_checkpoint_lacks_is_named(lab, name):
    path = lab.gpt2()
    lab.edit(path, lambda s: {n: t for n, t in s.items() if n != f"transformer.{name}"})
    lab.refused(path, 3, name)


@pytest.mark.parametrize("name, tensor", [
    ("transformer.h.2.ln_1.weight", torch.ones(32)),  # a layer more than config.json says
    ("transformer.h.0.attn.c_attn.lora_A", torch.ones(2, 32)),
    ("lm_head.bias", torch.ones(300)),
])
def test_what_the_network_has_no_use_for_is_named(lab, name, tensor):
    path = lab.gpt2()
    lab.edit(path, lambda s: s | {name: tensor})
    lab.refused(path, 2, name)


def test_what_our_network_forgets_of_the_reference_is_named(lab, monkeypatch):
    from kvr_export.families import FAMILIES, gpt2

    monkeypatch.setattr(gpt2.Weights, "pair", lambda w, name: (w[f"{name}.weight"], None))
    assert "gpt2" in FAMILIES
    lab.refused(lab.gpt2(), 2, "our gpt2 network has no use for", "c_attn.bias")


@pytest.mark.parametrize("key, value", [
    ("n_layer", 3), ("n_layer", 1), ("n_embd", 64), ("n_positions", 128),
])
def test_a_config_of_another_size_is_refused(lab, key, value):
    path = lab.gpt2()
    lab.configure(path, **{key: value})
    status, said = lab.run(path)
    assert status in (2, 3), said


def test_an_adapter_is_refused(lab):
    path = lab.gpt2()
    (path / "adapter_model.safetensors").write_bytes(b"")
    lab.refused(path, 2, "adapter_model.safetensors")


def test_a_missing_shard_is_refused(lab):
    path = lab.gpt2()
    state = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(state)
    half = {n: state[n] for n in names[:9]}
    save_file(half, path / "model-1.safetensors", metadata={"format": "pt"})
    index = {n: f"model-{1 if n in half else 2}.safetensors" for n in names}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    lab.refused(path, 3, "model-2.safetensors")
    save_file({n: state[n] for n in names[9:-1]}, path / "model-2.safetensors",
              metadata={"format": "pt"})
    lab.refused(path, 3, names[-1])
