"""What the networks are made of: linear layers, norms, attention, the transformer layer.

Written for one sequence at a time with a preallocated key/value buffer, so that no token costs a
concatenation. Each part has two ways to run, chosen once by `prepare`:

- the program's own kernels (src/model/kernels), the operators kvr::*, for CPUs that they are written
  for: a row's bits depend on nothing but the row;
- plain torch operators, for every other device.

Weights lie in the archive as the kernels read them, so that loading copies nothing.

torch.jit.script is deprecated in favour of torch.export; it stays the way to an archive that plain
libtorch runs, so its warning is silenced in `script`, and nowhere else.
"""

import os
import warnings
from pathlib import Path
from typing import Final, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# kPanel and kGroup of src/model/kernels/kernels.h; int8 inputs lie in fours there.
PANEL = 32
GROUP = 32
INT8_FOURS = 4
WORDS = 4  # 32 numbers of 4 bits are so many words of 32
VECTOR = 16  # the kernels take widths and head sizes that are multiples of it
# "source": a quantized file's own numbers, which are fp32's (kept.py).
PRECISIONS = ("fp32", "bf16", "int8", "source")

NONE, GELU_TANH, GELU, SILU_MULTIPLY = range(4)  # enum Activation there

KERNELS = Path(__file__).resolve().parents[2] / "build" / "release" / "libkvr_ops.so"


def load_kernels() -> bool:
    """Loads the program's kernels into torch; returns whether this CPU can run them."""
    path = Path(os.environ.get("KVR_OPS", KERNELS))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: build the program first (scripts/setup.sh build)")
    torch.ops.load_library(str(path))
    return torch.ops.kvr.kernels() != ""


def script(module: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(module.eval())


def constant(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().contiguous(), requires_grad=False)


def interleave(gate: Tensor, up: Tensor) -> Tensor:
    """Rows of both by turns, half a panel of each: what SILU_MULTIPLY expects."""
    half = PANEL // 2
    if gate.size(0) % half != 0:
        raise ValueError(f"an inner width of {gate.size(0)} is not a multiple of {half}")
    rest = list(gate.shape[1:])
    return torch.stack(
        [gate.view([-1, half] + rest), up.view([-1, half] + rest)], dim=1
    ).reshape([-1] + rest)


def untied(embed: Tensor, head: Tensor, precision: str) -> Optional[Tensor]:
    """The table that tokens are looked up in; None where it is the head's weight."""
    if embed.data_ptr() == head.data_ptr():
        return None
    # A table of its own is only looked up, so it needs no panels.
    return embed if precision == "fp32" else embed.bfloat16()


def packed(weight: Tensor, precision: str) -> tuple[Tensor, Tensor, Tensor]:
    """weight [outputs, inputs] as the kernels read it: panels, scales, offsets
    (docs/archive_format.md); the last two are empty but for int8."""
    outputs, inputs = weight.shape
    panels = F.pad(weight, [0, 0, 0, -outputs % PANEL]).view(-1, PANEL, inputs)
    if precision == "int8":
        return quantized(panels)
    panels = panels.transpose(1, 2)
    if precision == "bf16":
        panels = panels.bfloat16()
    return panels.contiguous(), torch.empty(0), torch.empty(0, dtype=torch.int32)


def quantized(panels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    inputs = panels.size(2)
    if inputs % GROUP != 0:
        raise ValueError(f"int8: {inputs} inputs are not a multiple of {GROUP}")
    groups = panels.view(-1, PANEL, inputs // GROUP, GROUP)
    # Symmetric: the largest magnitude of a group becomes 127.
    scale = groups.abs().amax(-1) / 127
    whole = (groups / scale.clamp(min=1e-30).unsqueeze(-1)).round()
    scales = scale.transpose(1, 2).contiguous()
    offsets = (-128 * whole.sum(-1)).to(torch.int32).transpose(1, 2).contiguous()
    fours = whole.to(torch.int8).view(-1, PANEL, inputs // INT8_FOURS, INT8_FOURS)
    return fours.transpose(1, 2).contiguous(), scales, offsets


class Linear(nn.Module):
    """activation(x W^T + b) + residual, x [rows, in]."""

    weight: Tensor
    bias: Optional[Tensor]
    HALF: Final[int] = PANEL // 2
    FOURS: Final[int] = GROUP // INT8_FOURS
    PANEL: Final[int] = PANEL
    WORDS: Final[int] = WORDS
    GELU_TANH: Final[int] = GELU_TANH
    GELU: Final[int] = GELU
    SILU_MULTIPLY: Final[int] = SILU_MULTIPLY

    def __init__(
        self, weight: Tensor, bias: Optional[Tensor], precision: str, activation: int = NONE
    ):
        super().__init__()
        self.outputs, self.inputs = int(weight.size(0)), int(weight.size(1))
        self.activation = activation
        self.native = False
        panels, scales, offsets = packed(weight.detach().float(), precision)
        # Buffers, since TorchScript can't replace a parameter.
        self.register_buffer("panels", panels)
        self.register_buffer("scales", scales)
        self.register_buffer("offsets", offsets)
        self.bias = None if bias is None else bias.detach().float().contiguous()
        self.weight = torch.empty(0)

    def forward(self, x: Tensor, residual: Optional[Tensor]) -> Tensor:
        if self.native:
            return torch.ops.kvr.linear(
                x, self.panels, self.scales, self.offsets, self.bias, residual, self.outputs,
                self.activation,
            )
        y = F.linear(x, self.weight, self.bias)
        if self.activation == self.GELU_TANH:
            y = F.gelu(y, approximate="tanh")
        elif self.activation == self.GELU:
            y = F.gelu(y)
        elif self.activation == self.SILU_MULTIPLY:
            pairs = y.view(y.size(0), -1, 2, self.HALF)
            y = (F.silu(pairs.select(2, 0)) * pairs.select(2, 1)).reshape(y.size(0), -1)
        return y if residual is None else y + residual

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of the weight: the embedding of tokens where it is tied to the output head."""
        if self.native:
            return torch.ops.kvr.embed(self.panels, self.scales, self.offsets, ids)
        return F.embedding(ids, self.weight)

    def values(self) -> Tensor:
        """The weight as floats [panel, input, PANEL], of all precisions but int8."""
        panels = self.panels
        if panels.dtype == torch.uint8:
            # Nibble i of word w is input 4 i + w of the group.
            words = panels.view([panels.size(0), -1, self.WORDS, self.PANEL, 4])
            nibbles = torch.stack([words.bitwise_and(15), words.bitwise_right_shift(4)], dim=5)
            panels = nibbles.permute([0, 1, 4, 5, 2, 3]).reshape(
                [panels.size(0), self.inputs, self.PANEL]
            )
        panels = panels.float()
        if self.scales.numel() > 0:
            group = self.inputs // self.scales.size(1)
            panels = panels * self.scales.float().repeat_interleave(group, dim=1)
            if self.offsets.numel() > 0:
                panels = panels + self.offsets.float().repeat_interleave(group, dim=1)
        return panels

    @torch.jit.export
    def prepare(self, native: bool) -> None:
        """Called once. Without the kernels the weight is laid out as torch has it, in fp32."""
        self.native = native
        if not native:
            panels = self.panels
            if panels.dtype == torch.int8 and panels.dim() == 4:
                scales = self.scales.repeat_interleave(self.FOURS, dim=1).unsqueeze(3)
                panels = (panels * scales).transpose(1, 2)
            else:
                panels = self.values().transpose(1, 2)
            self.weight = panels.reshape(-1, self.inputs).narrow(0, 0, self.outputs).contiguous()
            self.panels = torch.empty(0)


def joined(parts: list[tuple[Tensor, Optional[Tensor]]], precision: str) -> Linear:
    """Layers over the same input, each a weight and a bias, as one."""
    weights, biases = [w for w, _ in parts], [b for _, b in parts if b is not None]
    if biases and len(biases) < len(parts):
        raise ValueError("of layers that are joined some have a bias and some have none")
    return Linear(torch.cat(weights), torch.cat(biases) if biases else None, precision)


class Norm(nn.Module):
    """LayerNorm, or without a bias RMSNorm."""

    def __init__(self, weight: Tensor, bias: Optional[Tensor], eps: float):
        super().__init__()
        self.weight = constant(weight)
        self.bias = None if bias is None else constant(bias)
        self.eps = eps
        self.native = False

    def forward(self, x: Tensor) -> Tensor:
        if self.native:
            return torch.ops.kvr.norm(x, self.weight, self.bias, self.eps)
        if self.bias is None:
            return F.rms_norm(x, [x.size(1)], self.weight, self.eps)
        return F.layer_norm(x, [x.size(1)], self.weight, self.bias, self.eps)


class Attention(nn.Module):
    """Stores a piece's keys and values, and attends to all that lie in the buffer."""

    def __init__(self, heads: int, causal: bool):
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.native = False

    def forward(
        self, qkv: Tensor, count: int, past: int, span: int, keys: Tensor, values: Tensor,
        mask: Optional[Tensor], cos: Tensor, sin: Tensor,
    ) -> Tensor:
        """qkv [rows, (heads + 2 kv_heads) * head_dim], of which the first `count` rows are real;
        keys, values [kv_heads, capacity, head_dim]; mask [rows, span] is added; cos, sin
        [rows, head_dim] or empty. Returns [rows, heads * head_dim]."""
        if self.native:
            return torch.ops.kvr.attend(
                qkv, cos, sin, keys, values, self.heads, past, self.causal
            )
        rows, kv_heads, head_dim = qkv.size(0), keys.size(0), keys.size(2)
        group = self.heads // kv_heads
        parts = qkv.view(rows, self.heads + 2 * kv_heads, head_dim).transpose(0, 1)
        turned = parts.narrow(0, 0, self.heads + kv_heads)
        if cos.numel() > 0:
            half = head_dim // 2
            swapped = torch.cat((-turned.narrow(2, half, half), turned.narrow(2, 0, half)), dim=2)
            turned = turned * cos + swapped * sin
        k = turned.narrow(0, self.heads, kv_heads)
        v = parts.narrow(0, self.heads + kv_heads, kv_heads)
        keys.narrow(1, past, count).copy_(k.narrow(1, 0, count))
        values.narrow(1, past, count).copy_(v.narrow(1, 0, count))
        # Query heads that share a key head become a second batch dimension, with stride 0 on the
        # keys: grouped heads need no copy.
        out = F.scaled_dot_product_attention(
            turned.narrow(0, 0, self.heads).reshape(kv_heads, group, rows, head_dim),
            keys.narrow(1, 0, span).unsqueeze(1).expand(kv_heads, group, span, head_dim),
            values.narrow(1, 0, span).unsqueeze(1).expand(kv_heads, group, span, head_dim),
            mask,
        )
        return out.reshape(self.heads, rows, head_dim).transpose(0, 1).reshape(rows, -1)


class Layer(nn.Module):
    """One transformer layer: norms before each half (GPT-2, Llama), or behind it (BERT)."""

    def __init__(
        self, norm1: Norm, qkv: Linear, attention: Attention, out: Linear, norm2: Norm, up: Linear,
        down: Linear, norm_first: bool,
    ):
        super().__init__()
        self.norm1, self.qkv, self.attention, self.out = norm1, qkv, attention, out
        self.norm2, self.up, self.down = norm2, up, down
        self.norm_first = norm_first

    def forward(
        self, x: Tensor, count: int, past: int, span: int, keys: Tensor, values: Tensor,
        mask: Optional[Tensor], cos: Tensor, sin: Tensor,
    ) -> Tensor:
        h = self.norm1(x) if self.norm_first else x
        h = self.attention(self.qkv(h, None), count, past, span, keys, values, mask, cos, sin)
        x = self.out(h, x)
        if self.norm_first:
            return self.down(self.up(self.norm2(x), None), x)
        x = self.norm1(x)
        return self.norm2(self.down(self.up(x, None), x))

    @torch.jit.export
    def prepare(self, native: bool) -> None:
        self.norm1.native = native
        self.norm2.native = native
        self.attention.native = native
        self.qkv.prepare(native)
        self.out.prepare(native)
        self.up.prepare(native)
        self.down.prepare(native)
