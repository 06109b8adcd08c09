"""Chat templates, and what ends a text."""

import json

import pytest
from kvr_export import tokenizer


def test_all_ids_that_end_a_text_are_kept_and_penalties_refuse_nothing(lab):
    path = lab.gpt2()
    (path / "generation_config.json").write_text(json.dumps(
        {"eos_token_id": [0, 13], "repetition_penalty": 1.7, "num_beams": 4, "do_sample": True}))
    assert lab.exported(path)[1]["eos_ids"] == [0, 13]


@pytest.mark.parametrize("template", [
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{{ messages[9].content }}", "{% for m in messages %}", "{{ strftime_now('%Y') }}",
])
def test_a_bad_chat_template_is_left_out_with_a_warning(lab, template):
    path = lab.gpt2()
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    status, said = lab.run(path)
    assert status == 0, said
    assert "warning: the chat template is left out" in said


def test_a_template_that_writes_the_beginning_of_text_gets_one():
    text = ("{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}"
            "{% endfor %}")
    spec = tokenizer.reduce_template(text, "<s>", "</s>", adds_bos=True)
    assert (spec["begin"], spec["strip"]) == ("<s>", "<s>")
    assert tokenizer.reduce_template(text, "<s>", "</s>")["strip"] == ""
