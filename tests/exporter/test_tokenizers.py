"""The archive's tokenizer has the ids of the reference, or there is no archive."""

import io
import json
import os
import subprocess
import sys

import pytest
import sentencepiece
import transformers
from conftest import ROOT, VOCAB
from kvr_export import tokenizer
from kvr_export.families import FAMILIES
from kvr_export.refused import Refused
from make_tiny_models import TEXT

GPT2, LLAMA = FAMILIES["gpt2"], FAMILIES["llama"]


def reference(path, text: str) -> list[int]:
    return transformers.AutoTokenizer.from_pretrained(path)(text)["input_ids"]


def test_added_tokens_have_the_ids_that_the_files_give_whatever_the_hash_seed(lab):
    path = lab.gpt2(vocab_size=304)
    lab.tokenizer(path, "<pad>", "<user>", "<bot>", "<end>")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "from kvr_export import families, tokenizer\n"
        f"words = tokenizer.load({str(path)!r}, families.FAMILIES['gpt2'])\n"
        "print(words.encode('<user>a<pad><end><bot>'))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed},
                         stdout=subprocess.PIPE, text=True)
        for seed in ("1", "2", "3")
    ]
    found = {process.communicate()[0] for process in started}
    letter = json.loads((path / "vocab.json").read_text())["a"]
    assert found == {f"[301, {letter}, 300, 303, 302]\n"}


def test_added_tokens_json_counts(lab):
    path = lab.gpt2(vocab_size=302)
    (path / "added_tokens.json").write_text(json.dumps({"<two>": 301, "<one>": 300}))
    words = tokenizer.load(path, GPT2)
    assert words.encode("<one><two>") == [300, 301]
    assert words.encode("x<two> y<one>") == reference(path, "x<two> y<one>")


def sentencepiece_folder(lab):
    """Of 120 pieces."""
    path = lab.folder / "llama"
    path.mkdir()
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT[:2]), model_writer=written, vocab_size=120, model_type="bpe",
        character_coverage=1.0, minloglevel=2, byte_fallback=False)
    (path / "tokenizer.model").write_bytes(written.getvalue())
    return path


def test_tokens_beside_a_sentencepiece_model_are_cut_out_first(lab):
    path = sentencepiece_folder(lab)
    (path / "added_tokens.json").write_text(json.dumps({"<user>": 121, "<pad>": 120}))
    words = tokenizer.load(path, LLAMA)
    assert words.spec["vocab_size"] == 122
    plain = words.encode("cargo")
    assert words.encode("<user>cargo<pad>") == [plain[0], 121, *plain[1:], 120]
    (path / "added_tokens.json").write_text(json.dumps({"<user>": 125}))
    with pytest.raises(ValueError, match="gap"):
        tokenizer.load(path, LLAMA)


@pytest.mark.parametrize("setting", ["add_prefix_space", "add_bos_token"])
def test_a_setting_of_the_tokenizer_is_applied_or_refused(lab, setting):
    path = lab.gpt2()
    (path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", setting: True}))
    status, said = lab.run(path)
    if status:
        assert setting in said
    else:
        assert tokenizer.load(path, GPT2).encode("one two") == reference(path, "one two")


def test_a_token_beyond_the_embedding_is_refused(lab):
    path = lab.gpt2()
    lab.tokenizer(path, "[PAD]")
    lab.refused(path, 3, "301", "300")


@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "RobertaTokenizerFast", "BertJapaneseTokenizer"])
def test_files_that_another_class_reads_otherwise_are_refused(lab, name):
    lab_path = lab.bert() if name.startswith("Bert") else lab.gpt2()
    (lab_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    lab.refused(lab_path, 2, name)


def saved_by_transformers(lab, *added: str, **settings):
    """A GPT-2 folder whose tokenizer lies in tokenizer.json."""
    path = lab.gpt2(vocab_size=310)
    transformers.GPT2Tokenizer.from_pretrained(path).save_pretrained(path)
    lab.tokenizer(path, *added, **settings)
    return path


def test_what_stands_beside_tokenizer_json_and_not_in_it_is_refused(lab):
    path = saved_by_transformers(lab, "<user>")
    assert reference(path, "<user>") == [VOCAB]
    lab.refused(path, 2, "<user>", "tokenizer.json")
    lab.tokenizer(path, add_prefix_space=True)
    lab.refused(path, 2, "add_prefix_space")
    lab.tokenizer(path)
    lab.exported(path)


@pytest.mark.parametrize("setting, value", [("add_eos_token", True), ("add_prefix_space", False)])
def test_a_setting_against_a_sentencepiece_model_is_refused(lab, setting, value):
    path = sentencepiece_folder(lab)
    (path / "tokenizer_config.json").write_text(json.dumps({setting: value}))
    with pytest.raises(Refused, match=setting):
        tokenizer.load(path, LLAMA)
    (path / "tokenizer_config.json").write_text(json.dumps({setting: not value}))
    tokenizer.load(path, LLAMA)
