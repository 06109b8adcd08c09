"""What the programs time with."""

import time


def elapsed_ms(start: float) -> float:
    return (time.perf_counter() - start) * 1e3


def per_token(came: list[float]) -> dict:
    return {"decode": (came[-1] - came[0]) / (len(came) - 1)} if len(came) > 1 else {}
