"""--precision source: the weights of a quantized GGUF file as they are.

Our networks join, interleave and reorder rows of weights, and never cut one. So the network is built a
second time, of weights whose rows hold nothing but a number; each layer then tells which of the file's
rows it consists of. Their blocks take the place of the values made of them, which they must give again.
"""

from bisect import bisect_right

import numpy as np
import torch
from torch import Tensor, nn

from . import gguf_blocks, gguf_file
from .layers import GROUP, PANEL, WORDS, Linear
from .refused import Refused
from .weights import Weights


def keep(module: nn.Module, source, reference: nn.Module) -> None:
    """Replaces the weights of `module`'s layers, built at fp32 of `reference`. Throws Refused where
    the file has none of the types. Layers whose weights it has in other types stay fp32."""
    if not source.path.is_file() or source.origin["weights"] == "made from the seed":
        raise Refused(f"{source.path}: precision source is for quantized GGUF files "
                      f"({', '.join(gguf_blocks.TYPES)})")
    rows, numbered = number(source, reference)
    shadow = source.family.network(reference, Weights(numbered), "fp32", source.path)
    kept = 0
    for (name, layer), other in zip(layers_of(module), layers_of(shadow), strict=True):
        numbers = other[1].panels.flatten().long().numpy()
        blocks = rows.read(numbers, layer.outputs, layer.inputs)
        if blocks is None:
            continue
        before = layer.panels
        layer.panels, layer.scales, layer.offsets = packed(blocks)
        if not torch.equal(layer.values(), before):
            raise ValueError(f"{source.path}: the blocks of {name} do not give its values")
        kept += 1
    if kept == 0:
        raise Refused(f"{source.path}: precision source is for weights of the types "
                      f"{', '.join(gguf_blocks.TYPES)}, of which no layer is made here")


def layers_of(module: nn.Module) -> list[tuple[str, Linear]]:
    return [(n, m) for n, m in module.named_modules() if isinstance(m, Linear)]


class Rows:
    """All rows of a file's quantized matrices, numbered from 1; 0 is none of them."""

    def __init__(self) -> None:
        self.tensors: list = []
        self.starts: list[int] = []
        self.count = 1

    def add(self, tensor) -> Tensor:
        """The numbers of the tensor's rows [rows, 1], in fp32, which has all whole ones to 2^24."""
        rows = tensor.data.shape[0]
        self.tensors.append(tensor)
        self.starts.append(self.count)
        self.count += rows
        if self.count > 1 << 24:
            raise ValueError("more than 16 million rows of weights")
        return torch.arange(self.starts[-1], self.count, dtype=torch.float32).unsqueeze(1)

    def read(self, numbers: np.ndarray, count: int, inputs: int) -> gguf_blocks.Blocks | None:
        """The rows of the first `count` numbers, in one form, and empty ones for the rest. None unless
        all are there."""
        if not numbers[:count].all():
            return None
        owners = np.array([bisect_right(self.starts, n) - 1 for n in numbers[:count]])
        parts = {}
        for owner in np.unique(owners):
            tensor = self.tensors[owner]
            wanted = numbers[:count][owners == owner] - self.starts[owner]
            parts[owner] = gguf_blocks.read(tensor.tensor_type.name, tensor.data[wanted])
        group = min(part.group for part in parts.values())
        whole = gguf_blocks.Blocks(
            np.zeros((len(numbers), inputs), np.int16),
            *(np.zeros((len(numbers), inputs // group), np.float32) for _ in range(2)),
            group, max(part.bits for part in parts.values()),
        )
        for owner, part in parts.items():
            at = np.flatnonzero(owners == owner)
            times = part.group // group
            whole.numbers[at] = part.numbers
            whole.scales[at] = part.scales.repeat(times, axis=1)
            whole.lows[at] = part.lows.repeat(times, axis=1)
        return whole


def number(source, reference: nn.Module) -> tuple[Rows, dict[str, Tensor]]:
    """The reference's tensors with numbers of rows for each matrix."""
    state, rows = reference.state_dict(), Rows()
    found: dict[int, Tensor] = {}  # by the address of a tensor, which tied ones share
    for name, tensor, arrange in gguf_file.tensors(source.path, source.family, reference.config):
        if name in state and arrange and tensor.tensor_type.name in gguf_blocks.TYPES:
            found[state[name].data_ptr()] = arrange(rows.add(tensor))
    turned = {module.weight.data_ptr() for module in reference.modules()
              if type(module).__name__ == "Conv1D"}  # [inputs, outputs]

    def of(tensor: Tensor) -> Tensor:
        if tensor.dim() != 2:
            return tensor
        at = tensor.data_ptr()
        if at not in found:
            found[at] = torch.zeros([1, tensor.size(1)] if at in turned else [tensor.size(0), 1])
        return found[at]

    return rows, {name: of(tensor) for name, tensor in state.items()}


def packed(blocks: gguf_blocks.Blocks) -> tuple[Tensor, Tensor, Tensor]:
    """panels, scales and offsets, which here are the lows (docs/archive_format.md)."""
    outputs, inputs = blocks.numbers.shape
    numbers = torch.from_numpy(blocks.numbers).view(-1, PANEL, inputs)
    if blocks.bits == 4:
        # [panel, output, group, byte, half of it, word] to [panel, group, word, output, byte].
        halves = numbers.to(torch.uint8).view(-1, PANEL, inputs // GROUP, 4, 2, WORDS)
        words = halves[..., 0, :] | halves[..., 1, :] << 4
        panels = words.permute(0, 2, 4, 1, 3).reshape(-1, inputs // 8, PANEL, 4)
    else:
        panels = numbers.to(torch.int8).transpose(1, 2)
    planes = [
        torch.from_numpy(plane).view(-1, PANEL, inputs // blocks.group).transpose(1, 2).contiguous()
        for plane in (blocks.scales, blocks.lows)
    ]
    if all(torch.equal(plane.half().float(), plane) for plane in planes):
        planes = [plane.half() for plane in planes]
    scales, lows = planes
    return panels.contiguous(), scales, lows if lows.any() else torch.empty(0, dtype=lows.dtype)
