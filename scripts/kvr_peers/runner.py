"""Takes turns: rounds, the order within a round, busy loops, and what to do when one fails."""

import argparse
import contextlib
import functools
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

from .cases import TEXT, busy_cases, language_cases, real_tokens
from .models import ENCODER_TITLE, MODELS, ROOT, Model
from .registry import Program, Unavailable, all_programs, asked_for
from .remote import Remote

PAUSE_S = 0.3  # lets the threads of the last program go to sleep


def say(message: str) -> None:
    print(f"bench_peers.py: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


def take_turns(
    programs: dict, cases_of: Callable[[int], dict[str, dict]], rounds: int, title: str,
    skipped: list[dict],
) -> dict:
    """{program: {case: [one result a round]}}. A program that fails is left out from there on."""
    samples = {name: {} for name in programs}
    order = list(programs)
    for turn in range(rounds):
        first = turn % max(len(order), 1)
        for case_name, case in cases_of(turn).items():
            for name in order[first:] + order[:first]:
                if name not in programs:
                    continue
                say(f"{title}: round {turn + 1} of {rounds}, {case_name}, {name}")
                time.sleep(PAUSE_S)
                try:
                    with busy_loops(case.get("loops", 0)):
                        result = programs[name].run(case)
                except (Unavailable, RuntimeError) as error:
                    say(f"{title}: FAILED: {name}: {error}")
                    skipped.append({"model": title, "program": name, "reason": str(error)})
                    del programs[name], samples[name]
                    continue
                samples[name].setdefault(case_name, []).append(result)
    return samples


def start(
    variants_of: Callable[[Program], Iterable[str]], model: Model, title: str, scratch: Path,
    args: argparse.Namespace, skipped: list[dict],
) -> dict:
    """By label, the programs that are asked for and can run."""
    running = {}
    for program in all_programs():
        for variant in variants_of(program):
            label = program.label(variant)
            if not asked_for(label, args.programs):
                continue
            say(f"{title}: starting {label}")
            make = functools.partial(Remote, program.make) if program.own_process else program.make
            try:
                running[label] = make(model, variant, scratch, args.threads)
            except (Unavailable, RuntimeError) as reason:
                say(f"{title}: SKIPPED: {label}: {reason}")
                skipped.append({"model": title, "program": label, "reason": str(reason)})
    return running


def close(running: dict) -> None:
    for program in running.values():
        if isinstance(program, Remote):
            program.close()


def measure_language(name: str, args: argparse.Namespace, skipped: list[dict]) -> dict:
    model = MODELS[name]
    with tempfile.TemporaryDirectory(prefix="kvr-peers-") as folder:
        running = start(lambda p: p.language, model, model.title, Path(folder), args, skipped)
        archive = ROOT / "models" / model.archives["fp32"]
        ids = real_tokens(str(archive), model.cached + model.suffix * 2 * args.rounds)
        samples = take_turns(
            running,
            lambda turn: busy_cases(ids, args.busy) if args.busy
            else language_cases(model, ids, turn),
            args.rounds, model.title, skipped,
        )
        close(running)
    return {
        "title": model.title, "cached": model.cached, "suffix": model.suffix, "samples": samples,
    }


def measure_encoder(args: argparse.Namespace, skipped: list[dict]) -> dict:
    model = MODELS["smollm2"]  # kvr reads one, and doesn't use it
    with tempfile.TemporaryDirectory(prefix="kvr-peers-") as folder:
        running = start(lambda p: p.encoder, model, ENCODER_TITLE, Path(folder), args, skipped)
        case = {"embed": {"what": "embed", "text": TEXT}}
        samples = take_turns(running, lambda turn: case, 5 * args.rounds, ENCODER_TITLE, skipped)
        close(running)
    return {"title": ENCODER_TITLE, "samples": samples}


def environment() -> dict:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    versions = {}
    for package in [package for program in all_programs() for package in program.packages]:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"],
        stdout=subprocess.PIPE, text=True,
    ).stdout.strip()
    return {"cpu": cpu, "versions": versions, "commit": commit or "unknown"}
