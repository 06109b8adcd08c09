"""What every program runs: cases on the ids of the project's own prompts, by name."""

import json
import subprocess

from .models import KVR, ROOT, Model

TEXT = (
    "How do I reset the password of my account when I no longer have the phone that I used to "
    "register with, and nobody answers?"
)


def real_tokens(archive: str, count: int) -> list[int]:
    """Ids of the project's own prompts."""
    lines = (ROOT / "configs/prompts/paper_cache.jsonl").read_text().splitlines()
    lines += (ROOT / "configs/prompts/paper_test.jsonl").read_text().splitlines()
    text = "\n\n".join(json.loads(line)["text"] for line in lines)
    done = subprocess.run(
        [str(KVR), "tokenize", "--model", archive, "--json", "-"], input=text, text=True,
        stdout=subprocess.PIPE, check=True,
    )
    ids = json.loads(done.stdout)
    ids = ids["ids"] if isinstance(ids, dict) else ids
    if len(ids) < count:
        raise RuntimeError(f"the prompts have {len(ids)} tokens, needed are {count}")
    return ids


def language_cases(model: Model, ids: list[int], turn: int) -> dict[str, dict]:
    """By name. The suffix is another one in each round, so that no program has seen it."""
    def prompt(suffix: int) -> list[int]:
        at = model.cached + model.suffix * suffix
        return ids[: model.cached] + ids[at : at + model.suffix]

    return {
        "prefill": {"what": "prefill", "tokens": ids[:512], "new_tokens": 1},
        "decode_16": {"what": "decode", "tokens": ids[:16], "new_tokens": 17},
        "decode_900": {"what": "decode", "tokens": ids[:900], "new_tokens": 17},
        "baseline": {"what": "prefill", "tokens": prompt(2 * turn + 1), "new_tokens": 1},
        "recycled": {
            "what": "recycled", "tokens": prompt(2 * turn + 1), "other_tokens": prompt(2 * turn),
            "cached": model.cached, "new_tokens": 1,
        },
    }


def busy_cases(ids: list[int], loops: list[int]) -> dict[str, dict]:
    """One tells both speeds: the first token's time, and the time of each further one."""
    return {
        f"beside {count}": {
            "what": "decode", "tokens": ids[:417], "new_tokens": 25, "loops": count,
        }
        for count in [0, *loops]
    }
