"""scripts/bench_peers.py with programs made here: no model, no other program, no waiting."""

import json
import os
import re
import sys
from pathlib import Path

import bench_peers
import pytest
from kvr_peers import models, registry, remote, runner, tables

calls: list[tuple[str, dict]] = []  # what the programs below ran, in order


class Fake:
    """a program that answers at once"""

    ms = 10.0

    def __init__(self, model, variant, scratch, threads):
        self.name = f"{type(self).__name__} {variant}".strip()

    def run(self, case: dict) -> dict:
        calls.append((self.name, case))
        if case["what"] == "embed":
            return {"embed": self.ms, "embedding": [1.0, 0.0]}
        result = {"ttft": self.ms, "token": 7}
        if case["new_tokens"] > 1:
            result["decode"] = self.ms
        return {**result, "restore": 1.0} if case["what"] == "recycled" else result


class kvr(Fake):
    pass


class Slow(Fake):
    """one that takes four
    times as long"""

    ms = 40.0


class Failing(Fake):
    """one that fails when it decodes in the second round"""

    def run(self, case: dict) -> dict:
        if case["what"] == "decode" and sum(name == self.name for name, _ in calls) > 5:
            raise RuntimeError("out of luck")
        return super().run(case)


class Absent(Fake):
    """one that isn't installed"""

    def __init__(self, *_):
        raise registry.Unavailable("not installed")


class Embedder(Fake):
    """for the encoder"""


@pytest.fixture
def own_programs(monkeypatch):
    """The registry holds the programs of this file only, and nothing is read that a build makes."""
    registry.all_programs()  # imported for good: what registers below comes after
    monkeypatch.setattr(registry, "_registered", [])
    own = {"own_process": False}
    # In another order than their places.
    registry.program("Slow", 3, language=["one", "two"], compared={"two": ("int8",)}, **own)(Slow)
    registry.program("kvr", 1, language=["fp32", "int8"], encoder=["fp32"], **own)(kvr)
    registry.program("Embedder", 9, encoder=[""], **own)(Embedder)
    registry.program("Failing", 2, language=["fp32"], **own)(Failing)
    registry.program("Absent", 4, language=["f32"], packages=["pytest"], **own)(Absent)
    monkeypatch.setattr(bench_peers, "what_is_missing", lambda models, programs: [])
    monkeypatch.setattr(runner, "real_tokens", lambda archive, count: list(range(count)))
    monkeypatch.setattr(runner, "PAUSE_S", 0)
    for name in ["OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE"]:
        monkeypatch.setenv(name, "")  # it sets them: what they were comes back afterwards
    calls.clear()


def measure(folder: Path, *arguments: str) -> dict:
    assert bench_peers.main([*arguments, "--threads", "2", "--out", str(folder)]) == 0
    return json.loads((folder / "peers.json").read_text())


def test_rounds_are_interleaved_in_an_order_that_turns(own_programs, tmp_path):
    measure(tmp_path, "smollm2", "--rounds", "2", "--programs", "kvr,Slow")
    names = [name for name, _ in calls]
    order = ["kvr fp32", "kvr int8", "Slow one", "Slow two"]
    assert names[:20] == order * 5  # each of the five cases by every program
    assert names[20:] == [*order[1:], order[0]] * 5
    whats = [case["what"] for _, case in calls[::4]]
    assert whats == ["prefill", "decode", "decode", "prefill", "recycled"] * 2


def test_each_round_recycles_with_new_tokens_behind_the_same_ones(own_programs, tmp_path):
    measure(tmp_path, "smollm2", "--rounds", "3", "--programs", "kvr fp32")
    suffixes = set()
    recycled = [case for _, case in calls if case["what"] == "recycled"]
    for case in recycled:
        for tokens in [case["tokens"], case["other_tokens"]]:
            assert tokens[: case["cached"]] == list(range(1018)) and len(tokens) == 1018 + 19
            suffixes.add(tuple(tokens[case["cached"] :]))
    assert len(recycled) == 3 and len(suffixes) == 6


def test_a_program_that_fails_is_reported_and_loses_no_others_row(own_programs, tmp_path, capsys):
    result = measure(tmp_path, "smollm2", "--rounds", "2")
    title = "SmolLM2-135M-Instruct"
    assert result["skipped"] == [
        {"model": title, "program": "Absent f32", "reason": "not installed"},
        {"model": title, "program": "Failing fp32", "reason": "out of luck"},
    ]
    samples = result["models"][0]["samples"]
    assert list(samples) == ["kvr fp32", "kvr int8", "Slow one", "Slow two"]
    assert all(len(found[case]) == 2 for found in samples.values() for case in found)
    out, err = capsys.readouterr()
    assert f"\nNot measured: Absent f32 on {title}: not installed.\n" in out
    assert f"\nNot measured: Failing fp32 on {title}: out of luck.\n" in out
    assert f"bench_peers.py: {title}: FAILED: Failing fp32: out of luck\n" in err
    assert f"bench_peers.py: {title}: SKIPPED: Absent f32: not installed\n" in err
    assert len([name for name, _ in calls if name == "Failing fp32"]) == 6


def test_a_program_that_turns_out_unavailable_when_it_runs_is_left_out_too(own_programs):
    class Late:
        def run(self, case: dict) -> dict:
            raise registry.Unavailable("no numpy")

    skipped = []
    running = {"late": Late(), "kvr": kvr(None, "", None, 1)}
    case = {"embed": {"what": "embed"}}
    samples = runner.take_turns(running, lambda turn: case, 2, "title", skipped)
    assert len(samples.pop("kvr")["embed"]) == 2 and not samples
    assert skipped == [{"model": "title", "program": "late", "reason": "no numpy"}]


def test_a_run_in_which_no_program_can_take_part_says_why(own_programs, tmp_path, capsys):
    result = measure(tmp_path, "smollm2", "minilm", "--programs", "Absent")
    assert [model["samples"] for model in result["models"]] == [{}, {}]
    assert "Not measured: Absent f32" in capsys.readouterr().out


def test_the_files_have_the_same_form_as_ever(own_programs, tmp_path, capsys):
    result = measure(tmp_path, "smollm2", "minilm", "--rounds", "1", "--programs", "kvr,Embedder")
    assert list(result) == ["environment", "rounds", "threads", "busy", "models", "skipped"]
    assert list(result["environment"]) == ["cpu", "versions", "commit"]
    assert result["environment"]["versions"] == {"pytest": pytest.__version__}
    language, encoder = result["models"]
    assert list(language) == ["title", "cached", "suffix", "samples"]
    assert list(encoder) == ["title", "samples"]
    assert {name: len(found["embed"]) for name, found in encoder["samples"].items()} == {
        "kvr fp32": 5, "Embedder": 5  # five times as many
    }
    recycled = language["samples"]["kvr fp32"]["recycled"]
    assert recycled == [{"ttft": 10.0, "token": 7, "restore": 1.0}]
    assert (tmp_path / "peers.md").read_text() == capsys.readouterr().out


def test_an_earlier_run_is_rendered_without_measuring(own_programs, tmp_path, capsys):
    measure(tmp_path, "smollm2", "--rounds", "2", "--programs", "kvr,Slow")
    printed = capsys.readouterr().out
    calls.clear()
    assert bench_peers.main(["--render", str(tmp_path / "peers.json")]) == 0
    assert capsys.readouterr().out == printed and not calls


def test_the_tables_are_rendered_as_they_were(own_programs, tmp_path, capsys):
    programs = "kvr fp32,kvr int8,Slow two"
    measure(tmp_path, "smollm2", "minilm", "--rounds", "1", "--programs", programs)
    rows = [line for line in capsys.readouterr().out.splitlines() if line]
    assert re.fullmatch(
        r".*, 2 threads; medians \(least to greatest\) of 1 rounds, five times as many for the "
        r"encoder; commit \S+\. pytest \S+\.",
        rows[0],
    )
    one, ten = "1.0 (1.0 to 1.0)", "10.0 (10.0 to 10.0)"
    assert rows[1:] == [
        "### SmolLM2-135M-Instruct",
        "| program | prefill 512, tok/s | decode at 16, tok/s | decode at 900, tok/s | "
        "TTFT 1018 + 19, baseline, ms | recycled, ms | of it restore, ms | speedup | "
        "recycled token as baseline's | baseline token as transformers' |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {name} | 51200 (51200 to 51200) | 100.0 (100.0 to 100.0) | 100.0 (100.0 to 100.0) "
            f"| 10 (10 to 10) | {ten} | {one} | {one} | 1 of 1 | - |"
            for name in ["kvr fp32", "kvr int8"]
        ),
        "| Slow two | 12800 (12800 to 12800) | 25.0 (25.0 to 25.0) | 25.0 (25.0 to 25.0) "
        f"| 40 (40 to 40) | 40.0 (40.0 to 40.0) | {one} | {one} | 1 of 1 | - |",
        "Their time over kvr's, round by round (above 1: kvr is the faster):",
        "| program | against | prefill | decode at 16 | decode at 900 | baseline | recycled |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| Slow two | {ours} |" + " 4.00 (4.00 to 4.00) |" * 5
            for ours in ["kvr fp32", "kvr int8"]
        ),
        "### all-MiniLM-L6-v2",
        "| program | text to embedding, ms | over kvr's | cosine with kvr's |",
        "| --- | --- | --- | --- |",
        "| kvr fp32 | 10.00 (10.00 to 10.00) | 1.00 (1.00 to 1.00) | 1.000000 |",
    ]


def test_a_share_of_the_quiet_speed_is_taken_round_by_round():
    def sample(ms: float) -> dict:
        return {"ttft": ms, "decode": ms}

    samples = {
        "kvr fp32": {
            "beside 0": [sample(10.0), sample(20.0), sample(40.0)],
            "beside 1": [sample(20.0), sample(80.0), sample(80.0)],
        },
        "cut short": {"beside 0": [sample(10.0)]},
    }
    text = tables.render_busy(samples, [1], threads=2)
    fair = f"{min(1, os.cpu_count() / 3):.2f}"
    assert text == (
        "| Prefill of 417 tokens | quiet, tok/s | share left beside 1 |\n| --- | --- | --- |\n"
        "| kvr fp32 | 20850.0 (10425.0 to 41700.0) | 0.50 (0.25 to 0.50) |\n"
        f"| fair share |  | {fair} |\n\n"
        "| Decoding of 24 tokens behind them | quiet, tok/s | share left beside 1 |\n"
        "| --- | --- | --- |\n"
        "| kvr fp32 | 50.0 (25.0 to 100.0) | 0.50 (0.25 to 0.50) |\n"
        f"| fair share |  | {fair} |\n\n"
    )


def test_the_first_token_is_compared_with_transformers(own_programs):
    def found(*tokens: int) -> dict:
        return {"baseline": [{"ttft": 1.0, "token": token} for token in tokens]}

    model = {"cached": 1, "suffix": 1}
    samples = {"transformers fp32": found(1, 2, 3), "kvr fp32": found(1, 5, 3)}
    text = tables.render_language({**model, "samples": samples})
    assert "| 2 of 3 |\n" in next(row + "\n" for row in text.splitlines() if "| kvr fp32 |" in row)


def test_busy_cases_run_beside_as_many_processes_and_end_them(own_programs, tmp_path, monkeypatch):
    beside, started = [], []

    class Loop:
        def __init__(self, command):
            started.append(command)
            self.alive = True
            beside.append(self)

        def kill(self):
            beside.remove(self)

        def wait(self):
            pass

    here = {"cpu": "x", "commit": "x", "versions": {}}
    monkeypatch.setattr(bench_peers, "environment", lambda: here)
    monkeypatch.setattr(runner.subprocess, "Popen", Loop)
    counts, run = [], kvr.run
    monkeypatch.setattr(kvr, "run", lambda *args: counts.append(len(beside)) or run(*args))
    only = ["--programs", "kvr fp32"]
    result = measure(tmp_path, "smollm2", "--rounds", "1", "--busy", "1,3", *only)
    assert counts == [0, 1, 3] and not beside and len(started) == 4
    assert result["busy"] == [1, 3]
    assert list(result["models"][0]["samples"]["kvr fp32"]) == ["beside 0", "beside 1", "beside 3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpt5"], "model: found gpt5, expected some of smollm2, dialogpt-medium, minilm"),
        (["--programs", "kvr,Quick"], "--programs: found Quick, expected some of kvr fp32,"),
        (["--rounds", "0"], "--rounds: expected 1 or more"),
        (["--busy", "0"], "--busy: expected counts of 1 or more"),
        (["minilm", "--busy", "1"], "--busy: expected counts of 1 or more, and language models"),
    ],
)
def test_bad_usage_is_said_before_anything_runs(own_programs, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        bench_peers.main(arguments)
    assert ended.value.code == 2 and not calls
    assert message in capsys.readouterr().err


def test_help_lists_the_registered_programs_in_their_order(own_programs, capsys):
    with pytest.raises(SystemExit):
        bench_peers.main(["--help"])
    text = capsys.readouterr().out
    listed = re.findall(r"^  (\w+) +(one that .*|for the .*encoder)$", text, re.M)
    assert listed == [
        ("Failing", "one that fails when it decodes in the second round"),
        ("Slow", "one that takes four times as long"),
        ("Absent", "one that isn't installed"),
        ("Embedder", "for the sentence encoder"),
    ]


def test_what_is_missing_is_named_with_the_command_that_makes_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "ROOT", tmp_path)
    monkeypatch.setattr(models, "KVR", tmp_path / "kvr")
    monkeypatch.setattr(models, "ENCODER_ARCHIVE", tmp_path / "minilm.pt")
    assert bench_peers.main(["smollm2", "--programs", "kvr int8"]) == 3
    lines = capsys.readouterr().err.splitlines()
    gguf = models.MODELS["smollm2"].source
    export = f"  .venv/bin/python scripts/export_model.py {gguf} --precision"
    assert lines == [
        "bench_peers.py: missing; make it with:",
        "  scripts/setup.sh",
        "  .venv/bin/python scripts/get_models.py smollm2",
        f"{export} fp32 --out models/smollm2-fp32.pt",
        f"{export} int8 --out models/smollm2-int8.pt",
        "  scripts/setup.sh models",
    ]


def test_a_further_program_is_one_file(tmp_path, monkeypatch):
    file = tmp_path / "further_program.py"
    file.write_text(
        "from kvr_peers.registry import program\n"
        '@program("further", 4, language=["f32"])\n'
        'class Further:\n    """further"""\n'
    )
    before = [p.name for p in registry.all_programs()]
    monkeypatch.setattr(registry, "_registered", list(registry._registered))
    monkeypatch.setattr(registry.programs, "__path__", [*registry.programs.__path__, str(tmp_path)])
    try:
        names = [p.name for p in registry.all_programs()]
    finally:
        sys.modules.pop("kvr_peers.programs.further_program", None)
    assert names == [*before[:4], "further", *before[4:]]


def test_the_projects_programs_come_in_the_order_of_their_tables():
    assert [label for p in registry.all_programs() for label in map(p.label, p.language)] == [
        "kvr fp32", "kvr bf16", "kvr int8", "kvr source", "transformers fp32", "llama.cpp F32",
        "llama.cpp BF16", "llama.cpp Q8_0", "llama.cpp Q4_1", "OpenVINO GenAI its own",
        "OpenVINO GenAI f32",
    ]  # fmt: skip
    assert [label for p in registry.all_programs() for label in map(p.label, p.encoder)] == [
        "kvr fp32", "sentence-transformers", "ONNX Runtime"
    ]


# In a process of its own.


class Counting(Fake):
    """Answers with how often it was run, and with which tokens the last time."""

    def __init__(self, *_):
        self.seen = []

    def run(self, case: dict) -> dict:
        if case["tokens"] == "end":
            os._exit(3)
        if case["tokens"] == "fail":
            raise ValueError("first line\nsecond line")
        self.seen.append(case["tokens"])
        return {"seen": self.seen}


def test_a_program_of_its_own_process_warms_up_with_other_tokens():
    program = remote.Remote(Counting)
    assert program.run({"tokens": [1], "other_tokens": [2]}) == {"seen": [[2], [1]]}
    assert program.run({"tokens": [3]}) == {"seen": [[2], [1], [3], [3]]}
    program.close()
    assert program.process.exitcode == 0


@pytest.mark.parametrize(
    ("tokens", "reason"), [("end", "the process ended with 3"), ("fail", "ValueError: first line")]
)
def test_a_process_that_ends_or_fails_says_how(tokens, reason):
    program = remote.Remote(Counting)
    with pytest.raises(RuntimeError) as failed:
        program.run({"tokens": tokens})
    assert str(failed.value) == reason
    program.process.join()


def test_a_program_that_is_not_there_is_unavailable_in_its_process_too():
    with pytest.raises(registry.Unavailable, match="not installed"):
        remote.Remote(Absent)
