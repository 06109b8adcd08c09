"""What is no model, or not one that can be read, is said in one line."""

import huggingface_hub
import pytest
from kvr_export import sources

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


@pytest.mark.parametrize("name, contents", [
    ("model.safetensors", POINTER), ("model.safetensors", ""), ("model.safetensors", "x" * 5000),
    ("config.json", POINTER), ("config.json", "{"), ("config.json", "[]"),
    ("config.json", "[" * 100000), ("vocab.json", "{"), ("merges.txt", POINTER),
    ("tokenizer_config.json", "{"),
], ids=lambda value: value[:20])
def test_a_damaged_file_is_named(lab, name, contents):
    path = lab.gpt2()
    (path / name).write_text(contents)
    lab.refused(path, 3, path.name)


def test_quantized_weights_are_refused(lab):
    path = lab.gpt2()
    lab.configure(path, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    lab.refused(path, 2, "quantized")


def test_a_short_context_or_an_absent_model_is_refused(lab):
    lab.refused(lab.gpt2(n_positions=32), 2, "32 tokens")
    lab.refused(lab.folder / "absent", 2, "absent")


def test_a_hub_id_needs_no_owner(monkeypatch):
    calls = []

    class Api:
        def model_info(self, hub_id, **_):
            calls.append(hub_id)
            raise OSError("no network in tests")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    for name in ("gpt2", "microsoft/DialoGPT-medium"):
        with pytest.raises(sources.Refused):
            sources.download(name)
    assert calls == ["gpt2", "microsoft/DialoGPT-medium"]
