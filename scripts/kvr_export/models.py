"""The networks as TorchScript modules: GPT-2, Llama and BERT encoders.

Written for one sequence at a time with a preallocated key/value buffer, so that no token costs a
concatenation. The rules that make a row's bits independent of how a block is cut (design law 2):

- weights are packed once by oneDNN (`pack`), whose rows do not depend on their number;
- a prefill piece is padded to a multiple of PAD_ROWS rows;
- its attention reads the keys up to the next block edge, later ones masked out.

torch.jit.script is deprecated in favour of torch.export; it stays the way to an archive that plain
libtorch runs, so its warning is silenced in `script`, and nowhere else.
"""

import warnings
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAD_ROWS = 4


def script(module: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(module.eval())


def constant(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().contiguous(), requires_grad=False)


class Linear(nn.Module):
    """y = x W^T + b, x [rows, in]. After `pack` the weight lives in oneDNN's layout only."""

    packed: Tensor
    bias: Optional[Tensor]

    def __init__(self, weight: Tensor, bias: Optional[Tensor] = None):
        super().__init__()
        # Buffers and attributes, since TorchScript can't replace a parameter.
        self.register_buffer("weight", weight.detach().contiguous())
        self.bias = None if bias is None else bias.detach().contiguous()
        self.packed = torch.empty(0)
        self.is_packed = False

    def forward(self, x: Tensor) -> Tensor:
        if self.is_packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)

    @torch.jit.export
    def pack(self, rows: int) -> None:
        """REQUIRES: called once, on the CPU. `rows` is the row count to lay the weight out for."""
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, rows)
        self.weight = torch.empty(0)
        self.is_packed = True


def attend(q: Tensor, keys: Tensor, values: Tensor, mask: Optional[Tensor]) -> Tensor:
    """q [heads, T, head_dim]; keys, values [kv_heads, S, head_dim]; mask [T, S] is added.

    Query heads that share a key head become a second batch dimension with stride 0 on the keys:
    grouped heads need no copy. Returns [T, heads * head_dim].
    """
    kv_heads, span, head_dim = keys.size(0), keys.size(1), keys.size(2)
    group = q.size(0) // kv_heads
    rows = q.size(1)
    out = F.scaled_dot_product_attention(
        q.view(kv_heads, group, rows, head_dim),
        keys.unsqueeze(1).expand(kv_heads, group, span, head_dim),
        values.unsqueeze(1).expand(kv_heads, group, span, head_dim),
        mask,
    )
    return out.view(kv_heads * group, rows, head_dim).transpose(0, 1).reshape(rows, -1)


class Gpt2Layer(nn.Module):
    def __init__(self, config, block: nn.Module):
        super().__init__()
        self.heads: int = config.n_head
        self.eps: float = config.layer_norm_epsilon
        self.ln1_weight, self.ln1_bias = constant(block.ln_1.weight), constant(block.ln_1.bias)
        self.ln2_weight, self.ln2_bias = constant(block.ln_2.weight), constant(block.ln_2.bias)
        # Conv1D keeps [in, out].
        self.qkv = Linear(block.attn.c_attn.weight.t(), block.attn.c_attn.bias)
        self.out = Linear(block.attn.c_proj.weight.t(), block.attn.c_proj.bias)
        self.up = Linear(block.mlp.c_fc.weight.t(), block.mlp.c_fc.bias)
        self.down = Linear(block.mlp.c_proj.weight.t(), block.mlp.c_proj.bias)

    def forward(
        self, x: Tensor, count: int, past: int, span: int, keys: Tensor, values: Tensor,
        mask: Optional[Tensor], cos: Tensor, sin: Tensor,
    ) -> Tensor:
        rows, width = x.size(0), x.size(1)
        h = F.layer_norm(x, [width], self.ln1_weight, self.ln1_bias, self.eps)
        qkv = self.qkv(h).view(rows, 3, self.heads, -1).permute(1, 2, 0, 3)
        keys.narrow(1, past, count).copy_(qkv[1].narrow(1, 0, count))
        values.narrow(1, past, count).copy_(qkv[2].narrow(1, 0, count))
        x = x + self.out(attend(qkv[0], keys.narrow(1, 0, span), values.narrow(1, 0, span), mask))
        h = F.layer_norm(x, [width], self.ln2_weight, self.ln2_bias, self.eps)
        return x + self.down(F.gelu(self.up(h), approximate="tanh"))

    @torch.jit.export
    def pack(self, rows: int) -> None:
        self.qkv.pack(rows)
        self.out.pack(rows)
        self.up.pack(rows)
        self.down.pack(rows)


class LlamaLayer(nn.Module):
    def __init__(self, config, block: nn.Module):
        super().__init__()
        attn, mlp = block.self_attn, block.mlp
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.eps: float = config.rms_norm_eps
        self.inner: int = config.intermediate_size
        self.norm1 = constant(block.input_layernorm.weight)
        self.norm2 = constant(block.post_attention_layernorm.weight)
        projections = [attn.q_proj, attn.k_proj, attn.v_proj]
        bias = attn.q_proj.bias is not None
        self.qkv = Linear(
            torch.cat([p.weight for p in projections]),
            torch.cat([p.bias for p in projections]) if bias else None,
        )
        self.out = Linear(attn.o_proj.weight, attn.o_proj.bias)
        mlp_bias = mlp.gate_proj.bias is not None
        self.gate_up = Linear(
            torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
            torch.cat([mlp.gate_proj.bias, mlp.up_proj.bias]) if mlp_bias else None,
        )
        self.down = Linear(mlp.down_proj.weight, mlp.down_proj.bias)

    def forward(
        self, x: Tensor, count: int, past: int, span: int, keys: Tensor, values: Tensor,
        mask: Optional[Tensor], cos: Tensor, sin: Tensor,
    ) -> Tensor:
        rows, width = x.size(0), x.size(1)
        h = F.rms_norm(x, [width], self.norm1, self.eps)
        qkv = self.qkv(h).view(rows, self.heads + 2 * self.kv_heads, -1).transpose(0, 1)
        turned = qkv.narrow(0, 0, self.heads + self.kv_heads)
        half = turned.size(2) // 2
        swapped = torch.cat((-turned.narrow(2, half, half), turned.narrow(2, 0, half)), dim=2)
        turned = turned * cos + swapped * sin
        k = turned.narrow(0, self.heads, self.kv_heads)
        v = qkv.narrow(0, self.heads + self.kv_heads, self.kv_heads)
        keys.narrow(1, past, count).copy_(k.narrow(1, 0, count))
        values.narrow(1, past, count).copy_(v.narrow(1, 0, count))
        q = turned.narrow(0, 0, self.heads)
        x = x + self.out(attend(q, keys.narrow(1, 0, span), values.narrow(1, 0, span), mask))
        h = self.gate_up(F.rms_norm(x, [width], self.norm2, self.eps))
        return x + self.down(
            F.silu(h.narrow(1, 0, self.inner)) * h.narrow(1, self.inner, self.inner)
        )

    @torch.jit.export
    def pack(self, rows: int) -> None:
        self.qkv.pack(rows)
        self.out.pack(rows)
        self.gate_up.pack(rows)
        self.down.pack(rows)


class CausalLm(nn.Module):
    """A decoder over a caller's buffer.

    ids [T] int64; keys, values [layers, kv_heads, capacity, head_dim]; rows past..past+T are written
    in place. A prefill piece also reads, masked out, what lies up to the next block edge: the
    capacity must reach that edge and the contents must be finite.
    """

    def __init__(self, family: str, config, model: nn.Module):
        super().__init__()
        self.rotary = family == "llama"
        self.block_tokens = 128
        # The padding of the last piece may lie past the end of the context.
        spare = PAD_ROWS - 1
        cos, sin, positions, norm_bias = (torch.empty(0) for _ in range(4))
        if family == "gpt2":
            body, layer_type = model.transformer, Gpt2Layer
            blocks, norm, embed = body.h, body.ln_f, body.wte
            self.eps: float = config.layer_norm_epsilon
            positions = F.pad(body.wpe.weight.detach(), [0, 0, 0, spare])
            norm_bias = norm.bias.detach()
        else:
            body, layer_type = model.model, LlamaLayer
            blocks, norm, embed = body.layers, body.norm, body.embed_tokens
            self.eps = config.rms_norm_eps
            # The reference's own tables: its angles, and whatever scaling its config asks for.
            where = torch.arange(config.max_position_embeddings + spare).unsqueeze(0)
            cos, sin = body.rotary_emb(torch.empty(1, dtype=torch.float32), where)
            cos, sin = cos[0].contiguous(), sin[0].contiguous()
        self.embed = constant(embed.weight)
        self.positions = constant(positions)
        self.norm_weight, self.norm_bias = constant(norm.weight), constant(norm_bias)
        self.cos, self.sin = constant(cos), constant(sin)
        self.layers = nn.ModuleList(layer_type(config, block) for block in blocks)
        self.head = Linear(model.lm_head.weight.detach(), None)

    def hidden(
        self, ids: Tensor, count: int, past: int, span: int, mask: Optional[Tensor],
        keys: Tensor, values: Tensor,
    ) -> Tensor:
        """Runs all layers over ids [rows], of which the first `count` are real and are stored; each
        reads keys 0..span. Returns [rows, width]."""
        rows = ids.size(0)
        x = F.embedding(ids, self.embed)
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

    def logits(self, x: Tensor) -> Tensor:
        width = x.size(1)
        if self.rotary:
            x = F.rms_norm(x, [width], self.norm_weight, self.eps)
        else:
            x = F.layer_norm(x, [width], self.norm_weight, self.norm_bias, self.eps)
        return self.head(x)

    def piece(self, ids: Tensor, past: int, keys: Tensor, values: Tensor) -> Tensor:
        count = ids.size(0)
        rows = (count + 3) // 4 * 4  # PAD_ROWS
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
        return self.logits(x.narrow(0, x.size(0) - 1, 1)).squeeze(0)

    @torch.jit.export
    def all_logits(self, ids: Tensor, past: int, keys: Tensor, values: Tensor) -> Tensor:
        """As forward, with every token's logits [T, vocab]."""
        return self.logits(self.piece(ids, past, keys, values))

    @torch.jit.export
    def decode(self, ids: Tensor, past: int, keys: Tensor, values: Tensor) -> Tensor:
        """One decode step, ids [1]: no padding, no mask. Returns [vocab]. Its keys and values are
        not bit for bit those of prefill."""
        x = self.hidden(ids, 1, past, past + 1, None, keys, values)
        return self.logits(x).squeeze(0)

    @torch.jit.export
    def prepare(self, block_tokens: int, pack: bool) -> None:
        """Called once after loading. Packed weights can't be saved."""
        self.block_tokens = block_tokens
        if pack:
            for layer in self.layers:
                layer.pack(block_tokens)
            self.head.pack(1)


class BertLayer(nn.Module):
    def __init__(self, config, block: nn.Module):
        super().__init__()
        attn = block.attention
        projections = [attn.self.query, attn.self.key, attn.self.value]
        self.heads: int = config.num_attention_heads
        self.eps: float = config.layer_norm_eps
        self.qkv = Linear(
            torch.cat([p.weight for p in projections]), torch.cat([p.bias for p in projections])
        )
        self.out = Linear(attn.output.dense.weight, attn.output.dense.bias)
        self.up = Linear(block.intermediate.dense.weight, block.intermediate.dense.bias)
        self.down = Linear(block.output.dense.weight, block.output.dense.bias)
        norm1, norm2 = attn.output.LayerNorm, block.output.LayerNorm
        self.ln1_weight, self.ln1_bias = constant(norm1.weight), constant(norm1.bias)
        self.ln2_weight, self.ln2_bias = constant(norm2.weight), constant(norm2.bias)

    def forward(self, x: Tensor) -> Tensor:
        rows, width = x.size(0), x.size(1)
        qkv = self.qkv(x).view(rows, 3, self.heads, -1).permute(1, 2, 0, 3)
        x = x + self.out(attend(qkv[0], qkv[1], qkv[2], None))
        x = F.layer_norm(x, [width], self.ln1_weight, self.ln1_bias, self.eps)
        x = x + self.down(F.gelu(self.up(x)))
        return F.layer_norm(x, [width], self.ln2_weight, self.ln2_bias, self.eps)

    @torch.jit.export
    def pack(self, rows: int) -> None:
        self.qkv.pack(rows)
        self.out.pack(rows)
        self.up.pack(rows)
        self.down.pack(rows)


class Encoder(nn.Module):
    """A BERT sentence encoder: ids [T] -> mean-pooled embedding [width] of unit length."""

    def __init__(self, config, model: nn.Module):
        super().__init__()
        table = model.embeddings
        self.eps: float = config.layer_norm_eps
        self.words = constant(table.word_embeddings.weight)
        # One sentence: every token is of type 0.
        self.positions = constant(
            table.position_embeddings.weight + table.token_type_embeddings.weight[0]
        )
        self.ln_weight, self.ln_bias = constant(table.LayerNorm.weight), constant(table.LayerNorm.bias)
        self.layers = nn.ModuleList(BertLayer(config, block) for block in model.encoder.layer)

    def forward(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.words) + self.positions.narrow(0, 0, ids.size(0))
        x = F.layer_norm(x, [x.size(1)], self.ln_weight, self.ln_bias, self.eps)
        for layer in self.layers:
            x = layer(x)
        return F.normalize(x.mean(dim=0), dim=0)

    @torch.jit.export
    def prepare(self, pack: bool) -> None:
        if pack:
            for layer in self.layers:
                layer.pack(32)
