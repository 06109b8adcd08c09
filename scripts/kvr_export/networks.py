"""The language model's network as a TorchScript module, over the parts of layers.py.

With torch's own operators a prefill piece is padded to a multiple of PAD_ROWS rows and attends to the
keys up to the next block edge, later ones masked out, which keeps a row's bits from depending on how
its block was cut wherever torch's kernels allow it.
"""

from typing import Final, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Layer, Linear, Norm, constant

PAD_ROWS = 4
SPARE_ROWS = PAD_ROWS - 1  # the padding of the last piece may lie past the end of the context
BLOCK_TOKENS = 128  # the program's default


class CausalLm(nn.Module):
    """A decoder over a caller's buffer.

    ids [T] int64; keys, values [layers, kv_heads, capacity, head_dim]; rows past..past+T are written
    in place. Without the kernels a prefill piece also reads, masked out, what lies up to the next
    block edge: the capacity must reach that edge and the contents must be finite.
    """

    PAD_ROWS: Final[int] = PAD_ROWS

    def __init__(
        self, layers: list[Layer], norm: Norm, head: Linear, embed: Optional[Tensor],
        positions: Optional[Tensor] = None, rotary: Optional[tuple[Tensor, Tensor]] = None,
    ):
        """`embed` [vocab, width], None where it is tied to the head. Where a token stands is told by
        `positions` [POSITIONS, width], which are added, or by `rotary`, cosines and sines
        [POSITIONS, head_dim]; POSITIONS are those of the context and SPARE_ROWS more."""
        super().__init__()
        self.rotary = rotary is not None
        self.block_tokens = BLOCK_TOKENS
        self.native = False
        none = torch.empty(0)
        self.embed = constant(none if embed is None else embed)
        self.positions = constant(none if positions is None else positions)
        cos, sin = (none, none) if rotary is None else rotary
        self.cos, self.sin = constant(cos), constant(sin)
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.head = head

    def hidden(
        self, ids: Tensor, count: int, past: int, span: int, mask: Optional[Tensor],
        keys: Tensor, values: Tensor,
    ) -> Tensor:
        """Runs all layers over ids [rows], of which the first `count` are real and are stored; each
        reads keys 0..span. Returns [rows, width]."""
        rows = ids.size(0)
        if self.embed.numel() > 0:
            x = F.embedding(ids, self.embed).float()
        else:
            x = self.head.rows(ids)
        cos, sin = self.cos, self.sin
        if self.rotary:
            cos, sin = cos.narrow(0, past, rows), sin.narrow(0, past, rows)
        else:
            x = x + self.positions.narrow(0, past, rows)
        i = 0
        for layer in self.layers:
            x = layer(x, count, past, span, keys[i], values[i], mask, cos, sin)
            i += 1
        return x

    def piece(self, ids: Tensor, past: int, keys: Tensor, values: Tensor) -> Tensor:
        count = ids.size(0)
        if self.native:
            return self.hidden(ids, count, past, past + count, None, keys, values)
        rows = (count + self.PAD_ROWS - 1) // self.PAD_ROWS * self.PAD_ROWS
        span = (past + count + self.block_tokens - 1) // self.block_tokens * self.block_tokens
        where = torch.arange(past, past + rows, device=ids.device).unsqueeze(1)
        reach = torch.arange(span, device=ids.device).unsqueeze(0)
        mask = torch.zeros([rows, span], device=ids.device)
        mask = mask.masked_fill(reach > where, float("-inf"))
        return self.hidden(
            F.pad(ids, [0, rows - count]), count, past, span, mask, keys, values
        ).narrow(0, 0, count)

    def forward(self, ids: Tensor, past: int, keys: Tensor, values: Tensor) -> Tensor:
        """Prefill of one piece. Returns the last token's logits [vocab]."""
        x = self.piece(ids, past, keys, values)
        return self.head(self.norm(x.narrow(0, x.size(0) - 1, 1)), None).squeeze(0)

    @torch.jit.export
    def all_logits(self, ids: Tensor, past: int, keys: Tensor, values: Tensor) -> Tensor:
        """As forward, with every token's logits [T, vocab]."""
        return self.head(self.norm(self.piece(ids, past, keys, values)), None)

    @torch.jit.export
    def decode(self, ids: Tensor, past: int, keys: Tensor, values: Tensor) -> Tensor:
        """One decode step, ids [1]: no padding, no mask. Returns [vocab]. Without the kernels its
        keys and values are not bit for bit those of prefill."""
        x = self.hidden(ids, 1, past, past + 1, None, keys, values)
        return self.head(self.norm(x), None).squeeze(0)

    @torch.jit.export
    def prepare(self, block_tokens: int, native: bool) -> None:
        """Called once after loading; `native`: with the program's kernels."""
        self.block_tokens = block_tokens
        self.native = native
        self.norm.native = native
        for layer in self.layers:
            layer.prepare(native)
        self.head.prepare(native)
