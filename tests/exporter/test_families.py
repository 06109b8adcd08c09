"""A family is one file: nothing else has to know of it."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import transformers
from conftest import ROOT
from kvr_export.families import FAMILIES, supported
from kvr_export.layers import PRECISIONS

MISTRAL = '''
from ..family import family
from .llama import Llama


@family("mistral")
class Mistral(Llama):
    title = "Mistral without a window"
    keys = Llama.keys | {"sliding_window": (None,)}
'''


def export(scripts, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, scripts / "export_model.py", *arguments], capture_output=True, text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_a_file_more_is_a_family_more_in_messages_help_and_archives(lab):
    settings = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96,
                "bos_token_id": 0, "eos_token_id": 0, "sliding_window": None}
    path = lab.language_model(
        "m", transformers.MistralForCausalLM, transformers.MistralConfig, settings
    )
    lab.refused(path, 2, "mistral", supported())

    scripts = shutil.copytree(ROOT / "scripts", lab.folder / "scripts")
    (scripts / "kvr_export" / "families" / "mistral.py").write_text(MISTRAL)
    assert "mistral (Mistral without a window)" in export(scripts, "--help").stdout
    done = export(scripts, path, "--out", lab.out)
    assert done.returncode == 0, done.stderr
    assert lab.metadata(lab.out)["family"] == "mistral"


def test_every_file_registers_a_family_of_its_name():
    files = sorted((ROOT / "scripts" / "kvr_export" / "families").glob("[a-z]*.py"))
    assert [file.stem for file in files] == list(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_says_all_and_says_it_once(name):
    family = FAMILIES[name]
    assert family.name == name and family.title and family.tokenizer_class
    assert set(family.precisions) <= set(PRECISIONS)
    assert (family.gguf is None) == (not family.gguf_names)
    assert set(family.gguf_paired) | set(family.gguf_turned) <= set(family.gguf_names)
    for reason in (*family.ignored_keys.values(), *family.ignored_tensors.values()):
        assert reason
    for pattern in family.ignored_keys:
        assert not any(re.fullmatch(pattern, key) for key in family.keys), pattern
