"""The blocks of GGUF's quantized types, as whole numbers and what turns them into values.

A value is scale * number + low, rounded after each step. A scale has 11 bits (Q4_0, Q4_1, Q8_0), or 17
and 19 (Q4_K, Q6_K: a factor of 6 or 8 bits of its own), a number at most 8, so that the product is exact
wherever there is a low, and a fused multiply-add gives the same bits. Q4_0's numbers are 0 to 15 with
-8 * scale for a low, which gives the very values but for the sign of a zero; in a sum of products that
changes nothing.

The types are llama.cpp's (ggml-common.h, ggml-quants.c).
"""

from dataclasses import dataclass
from typing import Callable

import numpy as np


@dataclass
class Blocks:
    """Of some rows: numbers [rows, inputs]; scales and lows [rows, inputs / group], fp32."""

    numbers: np.ndarray
    scales: np.ndarray
    lows: np.ndarray
    group: int
    bits: int  # 4: the numbers are 0 to 15; 8: -128 to 127


TYPES: dict[str, tuple[int, Callable[[np.ndarray], Blocks]]] = {}  # bytes of a block, and its reader


def blocks_of(name: str, size: int):
    def register(read):
        TYPES[name] = (size, read)
        return read

    return register


def read(name: str, rows: np.ndarray) -> Blocks:
    """`rows`: [rows, bytes] of a tensor of the type `name`, one of TYPES."""
    size, reader = TYPES[name]
    return reader(np.ascontiguousarray(rows).reshape(rows.shape[0], -1, size))


def halves(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def nibbles(raw: np.ndarray, run: int) -> np.ndarray:
    """[.., bytes] to [.., 2 * bytes]: of each `run` bytes first the low halves, then the high ones."""
    runs = raw.reshape(*raw.shape[:-1], -1, 1, run)
    return np.concatenate([runs & 15, runs >> 4], axis=-2).reshape(*raw.shape[:-1], -1)


def flat(*planes: np.ndarray) -> list[np.ndarray]:
    return [plane.reshape(plane.shape[0], -1) for plane in planes]


@blocks_of("Q4_0", 18)
def q4_0(b: np.ndarray) -> Blocks:
    scales = halves(b[..., :2])
    return Blocks(*flat(nibbles(b[..., 2:], 16), scales, -8 * scales), group=32, bits=4)


@blocks_of("Q4_1", 20)
def q4_1(b: np.ndarray) -> Blocks:
    return Blocks(
        *flat(nibbles(b[..., 4:], 16), halves(b[..., :2]), halves(b[..., 2:4])), group=32, bits=4
    )


@blocks_of("Q8_0", 34)
def q8_0(b: np.ndarray) -> Blocks:
    scales = halves(b[..., :2])
    return Blocks(*flat(b[..., 2:].view(np.int8), scales, np.zeros_like(scales)), group=32, bits=8)


@blocks_of("Q4_K", 144)
def q4_k(b: np.ndarray) -> Blocks:
    """256 values: 8 groups, each with a factor and a minimum of 6 bits; of the last four groups the
    upper two bits lie in the first ones' bytes."""
    low, high, rest = b[..., 4:8], b[..., 8:12], b[..., 12:16]
    factors = np.concatenate([low & 63, (rest & 15) | (low >> 6 << 4)], axis=-1)
    minima = np.concatenate([high & 63, (rest >> 4) | (high >> 6 << 4)], axis=-1)
    scales = halves(b[..., :2]) * factors.astype(np.float32)
    lows = halves(b[..., 2:4]) * minima.astype(np.float32)
    return Blocks(*flat(nibbles(b[..., 16:], 32), scales, -lows), group=32, bits=4)


@blocks_of("Q6_K", 210)
def q6_k(b: np.ndarray) -> Blocks:
    """256 values: 4 lower bits, 2 upper ones; 16 groups, each with a factor of 8 bits."""
    lower = nibbles(b[..., :128], 64)
    twos = b[..., 128:192].reshape(*b.shape[:-1], 2, 1, 32)
    upper = np.concatenate([twos >> shift & 3 for shift in (0, 2, 4, 6)], axis=-2)
    numbers = (lower | upper.reshape(*lower.shape) << 4).astype(np.int8) - 32
    scales = halves(b[..., 208:]) * b[..., 192:208].view(np.int8).astype(np.float32)
    return Blocks(*flat(numbers, scales, np.zeros_like(scales)), group=16, bits=8)
