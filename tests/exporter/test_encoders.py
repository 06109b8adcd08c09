"""Sentence encoders are pooled as their folder says, or refused."""

import json

import pytest
import torch
import transformers


def test_mean_and_cls_are_pooled_as_the_folder_says(lab):
    found = {}
    for name, pooling in {
        "mean": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
        "cls": {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
        "new": {"word_embedding_dimension": 48, "pooling_mode": "cls"},
        "none": None,
    }.items():
        path = lab.bert(name, pooling)
        archive, _ = lab.exported(path)
        archive.prepare(False)
        ids = torch.tensor([2, 10, 11, 12, 3])
        hidden = transformers.BertModel.from_pretrained(path).eval()(ids[None]).last_hidden_state[0]
        wanted = hidden[0] if name in ("cls", "new") else hidden.mean(0)
        with torch.no_grad():
            found[name] = archive(ids)
        torch.testing.assert_close(
            found[name], torch.nn.functional.normalize(wanted, dim=0), atol=1e-5, rtol=0
        )
    assert (found["mean"] - found["cls"]).abs().max() > 0.01


@pytest.mark.parametrize("mode", [
    "max_tokens", "weightedmean_tokens", "lasttoken", "mean_sqrt_len_tokens",
])
def test_another_pooling_is_refused_by_name(lab, mode):
    lab.refused(lab.bert(pooling={f"pooling_mode_{mode}": True}), 2, mode)


def test_two_poolings_or_a_newer_other_one_are_refused_by_name(lab):
    both = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    lab.refused(lab.bert("both", both), 2, "cls_token and mean_tokens")
    lab.refused(lab.bert("new", {"pooling_mode": "max"}), 2, "max")


def test_a_torn_list_of_modules_or_an_unknown_module_is_refused(lab):
    torn = lab.bert("torn", {"pooling_mode": "mean"})
    (torn / "modules.json").write_text("[{")
    lab.refused(torn, 3, "modules.json")
    dense = lab.bert("dense", {"pooling_mode": "mean"}, ("Transformer", "Pooling", "Dense"))
    lab.refused(dense, 2, "Dense")


def test_a_limit_of_null_is_none(lab):
    path = lab.bert(pooling={"pooling_mode": "mean"})
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": None}))
    assert lab.exported(path)[1]["context_tokens"] == 64


def test_lower_case_that_the_tokenizer_does_not_make_and_unknown_keys_are_refused(lab):
    path = lab.bert(pooling={"pooling_mode": "mean"})
    said = path / "sentence_bert_config.json"
    said.write_text(json.dumps({"do_lower_case": True, "transformer_task": "feature-extraction"}))
    lab.exported(path)  # its tokenizer does
    cased = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
    (path / "tokenizer_config.json").write_text(json.dumps(cased))
    lab.refused(path, 2, "do_lower_case")
    said.write_text(json.dumps({"a_new_key": 1}))
    lab.refused(path, 2, "a_new_key")


def test_an_encoder_has_one_precision(lab):
    status, said = lab.run(lab.bert(), "--precision", "bf16")
    assert (status, "precision fp32, not bf16" in said) == (2, True)
