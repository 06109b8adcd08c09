"""The tables, from what the runs recorded."""

import os
import statistics
from collections.abc import Callable

from .models import ENCODER_TITLE
from .registry import all_programs


def spread(values: list[float], digits: int = 1) -> str:
    """Median (least to greatest)."""
    if not values:
        return "-"
    return (
        f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to "
        f"{max(values):.{digits}f})"
    )


def row_of(found: dict, reference: dict | None) -> list[str]:
    def times(case: str, what: str) -> list[float]:
        return [r[what] for r in found.get(case, []) if what in r]

    baseline, recycled = times("baseline", "ttft"), times("recycled", "ttft")
    tokens = [r["token"] for r in found.get("recycled", [])]
    own = [r["token"] for r in found.get("baseline", [])]
    expected = [r["token"] for r in reference.get("baseline", [])] if reference else []
    same = f"{sum(a == b for a, b in zip(tokens, own))} of {len(own)}"
    known = f"{sum(a == b for a, b in zip(own, expected))} of {len(expected)}" if expected else "-"
    return [
        spread([512e3 / t for t in times("prefill", "ttft")], 0),
        spread([1e3 / t for t in times("decode_16", "decode")]),
        spread([1e3 / t for t in times("decode_900", "decode")]),
        spread(baseline, 0), spread(recycled), spread(times("recycled", "restore")),
        spread([b / r for b, r in zip(baseline, recycled)]), same, known,
    ]


def ratios(found: dict, ours: dict, against: str) -> list[str]:
    """Their time over ours, round by round: above 1, ours is the faster."""
    def pairs(case: str, what: str) -> list[float]:
        return [
            theirs[what] / mine[what]
            for theirs, mine in zip(found.get(case, []), ours.get(case, []))
            if what in theirs and what in mine
        ]

    columns = [
        ("prefill", "ttft"), ("decode_16", "decode"), ("decode_900", "decode"),
        ("baseline", "ttft"), ("recycled", "ttft"),
    ]
    return [against, *(spread(pairs(*column), 2) for column in columns)]


def busy_row(found: dict, loops: list[int], speed: Callable[[dict], float]) -> list[str]:
    """The quiet speed, and what share of it is left beside each number of loops, of each round."""
    quiet = [speed(result) for result in found["beside 0"]]
    return [spread(quiet)] + [
        spread([speed(r) / q for r, q in zip(found[f"beside {count}"], quiet)], 2) for count in loops
    ]


def render_busy(samples: dict, loops: list[int], threads: int) -> str:
    # As in `kvr bench --busy`; the loops of this script know no more of cores than it does.
    fair = [f"{min(1, os.cpu_count() / (threads + count)):.2f}" for count in loops]
    out = ""
    for title, speed in [
        ("Prefill of 417 tokens", lambda r: 417e3 / r["ttft"]),
        ("Decoding of 24 tokens behind them", lambda r: 1e3 / r["decode"]),
    ]:
        rows = [
            [name, *busy_row(found, loops, speed)]
            for name, found in samples.items()
            if len(found) > len(loops)
        ]
        head = [title, "quiet, tok/s", *(f"share left beside {count}" for count in loops)]
        out += table(head, [*rows, ["fair share", "", *fair]]) + "\n"
    return out


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"


def render_encoder(samples: dict) -> str:
    rows, first = [], None
    for name, found in samples.items():
        first = first or found["embed"]
        cosine = sum(a * b for a, b in zip(found["embed"][0]["embedding"], first[0]["embedding"]))
        pairs = [a["embed"] / b["embed"] for a, b in zip(found["embed"], first)]
        times = [r["embed"] for r in found["embed"]]
        rows.append([name, spread(times, 2), spread(pairs, 2), f"{cosine:.6f}"])
    return table(["program", "text to embedding, ms", "over kvr's", "cosine with kvr's"], rows)


def render_language(model: dict) -> str:
    samples, where = model["samples"], f"{model['cached']} + {model['suffix']}"
    head = [
        "program", "prefill 512, tok/s", "decode at 16, tok/s", "decode at 900, tok/s",
        f"TTFT {where}, baseline, ms", "recycled, ms", "of it restore, ms", "speedup",
        "recycled token as baseline's", "baseline token as transformers'",
    ]
    reference = samples.get("transformers fp32")
    out = table(head, [[n, *row_of(f, reference)] for n, f in samples.items()])
    out += "\nTheir time over kvr's, round by round (above 1: kvr is the faster):\n\n"
    against = [(n, "kvr fp32") for n in samples if not n.startswith("kvr")]
    against += [
        (program.label(variant), f"kvr {precision}")
        for program in all_programs()
        for variant, precisions in program.compared.items()
        for precision in precisions
    ]
    return out + table(
        ["program", "against", "prefill", "decode at 16", "decode at 900", "baseline", "recycled"],
        [
            [theirs, *ratios(samples[theirs], samples[ours], ours)]
            for theirs, ours in against
            if theirs in samples and ours in samples
        ],
    )


def render(result: dict) -> str:
    at = result["environment"]
    out = (
        f"{at['cpu']}, {result['threads']} threads; medians (least to greatest) of "
        f"{result['rounds']} rounds, five times as many for the encoder; commit {at['commit']}. "
        + ", ".join(f"{name} {version}" for name, version in at["versions"].items()) + ".\n"
    )
    for model in result["models"]:
        out += f"\n### {model['title']}\n\n"
        if model["title"].startswith(ENCODER_TITLE):
            out += render_encoder(model["samples"])
        elif result.get("busy"):
            out += render_busy(model["samples"], result["busy"], result["threads"])
        else:
            out += render_language(model)
    for item in result["skipped"]:
        out += f"\nNot measured: {item['program']} on {item['model']}: {item['reason']}.\n"
    return out
