"""The fingerprint changes with what decides a result, and with nothing else."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT


def fingerprint(lab, path, *options) -> str:
    return lab.exported(path, *options)[1]["fingerprint"]


def start(scripts, path) -> subprocess.Popen:
    """Exports `path` with a copy of the exporter, into it."""
    return subprocess.Popen(
        [sys.executable, scripts / "export_model.py", path, "--out", scripts / "out.pt"],
        stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


def copied_exporter(lab, name: str):
    return shutil.copytree(ROOT / "scripts", lab.folder / name)


def test_comments_lines_and_names_of_locals_do_not_count_but_arithmetic_does(lab):
    path = lab.llama()
    words, arithmetic = copied_exporter(lab, "words"), copied_exporter(lab, "arithmetic")
    package = words / "kvr_export"
    for file in (package / "networks.py", package / "layers.py", package / "families" / "llama.py"):
        file.write_text("# A comment.\n\n" + file.read_text())
    layers = (package / "layers.py").read_text()
    start_of_forward = "        h = self.norm1(x) if"
    changed = layers.replace(start_of_forward, '        """Words."""\n' + start_of_forward)
    changed = changed.replace("turned", "rotated")
    assert changed.count("rotated") > 5 and "Words" in changed
    (package / "layers.py").write_text(changed)
    # Another order of the same sum: another last bit.
    other = layers.replace("return y if residual is None else y + residual",
                           "return y if residual is None else residual + y")
    assert other != layers
    (arithmetic / "kvr_export" / "layers.py").write_text(other)

    started = [start(copy, path) for copy in (words, arithmetic)]
    before = fingerprint(lab, path)
    assert [process.wait() for process in started] == [0, 0]
    assert lab.metadata(words / "out.pt")["fingerprint"] == before
    assert lab.metadata(arithmetic / "out.pt")["fingerprint"] != before


def test_a_weight_a_key_the_tokenizer_and_the_precision_each_count(lab):
    path = lab.llama(intermediate_size=96)
    found = {"plain": fingerprint(lab, path)}
    assert fingerprint(lab, path, "--name", "another") == found["plain"]

    def nudge(state):
        state["model.layers.1.mlp.up_proj.weight"][3, 5] += 1e-3

    kept = (path / "model.safetensors").read_bytes()
    lab.edit(path, nudge)
    found["weight"] = fingerprint(lab, path)
    (path / "model.safetensors").write_bytes(kept)

    config = (path / "config.json").read_text()
    for key, value in {"rms_norm_eps": 1e-5, "max_position_embeddings": 95, "eos_token_id": 7}.items():
        lab.configure(path, **{key: value})
        found[key] = fingerprint(lab, path)
        (path / "config.json").write_text(config)

    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{% for m in messages %}"
                                                            "{{ m.role }}: {{ m.content }}\n{% endfor %}"}))
    found["template"] = fingerprint(lab, path)
    (path / "tokenizer_config.json").unlink()
    merges = (path / "merges.txt").read_text().splitlines()
    merges[1], merges[2] = merges[2], merges[1]
    (path / "merges.txt").write_text("\n".join(merges) + "\n")
    found["tokenizer"] = fingerprint(lab, path)
    assert len(set(found.values())) == len(found), found


def test_each_precision_has_a_fingerprint_of_its_own(lab):
    path = lab.llama()
    found = {fingerprint(lab, path, "--random", "--precision", p) for p in ("fp32", "bf16", "int8")}
    assert len(found) == 3


@pytest.mark.parametrize(
    "change", [lambda w: w.view(4, -1), lambda w: w.view(torch.int32)], ids=["shape", "type"]
)
def test_the_shape_and_the_type_of_a_weight_count_beside_its_bytes(change):
    from kvr_export import layers
    from kvr_export.fingerprint import fingerprint as of

    def model(weight):
        part = torch.nn.Module()
        part.register_buffer("weight", weight)
        return part

    scripted = layers.script(torch.nn.Identity())
    weight = torch.arange(16.0).view(2, 8)
    assert of(model(weight), scripted, {}, b"") != of(model(change(weight)), scripted, {}, b"")
