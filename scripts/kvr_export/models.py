"""The networks as TorchScript modules: GPT-2, Llama and BERT encoders.

Written for one sequence at a time with a preallocated key/value buffer, so that no token costs a
concatenation. Each part has two ways to run, chosen once by `prepare`:

- the program's own kernels (src/model/kernels), the operators kvr::*, for CPUs that they are written
  for: a row's bits depend on nothing but the row;
- plain torch operators, for every other device. There a prefill piece is padded to a multiple of
  PAD_ROWS rows and attends to the keys up to the next block edge, later ones masked out, which keeps
  a row's bits from depending on how its block was cut wherever torch's own kernels allow it.

Weights lie in the archive as the kernels read them, so that loading copies nothing.

torch.jit.script is deprecated in favour of torch.export; it stays the way to an archive that plain
libtorch runs, so its warning is silenced in `script`, and nowhere else.
"""

import os
import warnings
from pathlib import Path
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAD_ROWS = 4
PANEL = 32  # kPanel and kGroup of src/model/kernels/kernels.h
GROUP = 32
PRECISIONS = ["fp32", "bf16", "int8"]

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


class Linear(nn.Module):
    """activation(x W^T + b) + residual, x [rows, in]."""

    weight: Tensor
    bias: Optional[Tensor]

    def __init__(
        self, weight: Tensor, bias: Optional[Tensor], precision: str, activation: int = NONE
    ):
        super().__init__()
        self.outputs, self.inputs = int(weight.size(0)), int(weight.size(1))
        self.activation = activation
        self.native = False
        weight = F.pad(weight.detach().float(), [0, 0, 0, -self.outputs % PANEL])
        panels = weight.view(-1, PANEL, self.inputs)
        scales, offsets = torch.empty(0), torch.empty(0, dtype=torch.int32)
        if precision == "int8":
            if self.inputs % GROUP != 0:
                raise ValueError(f"int8: {self.inputs} inputs are not a multiple of {GROUP}")
            groups = panels.view(-1, PANEL, self.inputs // GROUP, GROUP)
            # Symmetric: the largest magnitude of a group becomes 127.
            scale = groups.abs().amax(-1) / 127
            whole = (groups / scale.clamp(min=1e-30).unsqueeze(-1)).round()
            scales = scale.transpose(1, 2).contiguous()
            offsets = (-128 * whole.sum(-1)).to(torch.int32).transpose(1, 2).contiguous()
            panels = whole.to(torch.int8).view(-1, PANEL, self.inputs // 4, 4).transpose(1, 2)
        else:
            panels = panels.transpose(1, 2)
            if precision == "bf16":
                panels = panels.bfloat16()
        # Buffers, since TorchScript can't replace a parameter.
        self.register_buffer("panels", panels.contiguous())
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
        if self.activation == 1:
            y = F.gelu(y, approximate="tanh")
        elif self.activation == 2:
            y = F.gelu(y)
        elif self.activation == 3:
            pairs = y.view(y.size(0), -1, 2, 16)
            y = (F.silu(pairs.select(2, 0)) * pairs.select(2, 1)).reshape(y.size(0), -1)
        return y if residual is None else y + residual

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of the weight: the embedding of tokens where it is tied to the output head."""
        if self.native:
            return torch.ops.kvr.embed(self.panels, self.scales, self.offsets, ids)
        return F.embedding(ids, self.weight)

    @torch.jit.export
    def prepare(self, native: bool) -> None:
        """Called once. Without the kernels the weight is laid out as torch has it, in fp32."""
        self.native = native
        if not native:
            panels = self.panels
            if self.scales.numel() > 0:
                scales = self.scales.repeat_interleave(8, dim=1).unsqueeze(3)  # GROUP / 4
                panels = (panels * scales).transpose(1, 2)
            else:
                panels = panels.float().transpose(1, 2)
            self.weight = panels.reshape(-1, self.inputs).narrow(0, 0, self.outputs).contiguous()
            self.panels = torch.empty(0)


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


def gpt2_layer(config, block: nn.Module, precision: str) -> Layer:
    def linear(conv: nn.Module, activation: int = NONE) -> Linear:
        return Linear(conv.weight.t(), conv.bias, precision, activation)  # Conv1D: [in, out]

    eps = config.layer_norm_epsilon
    return Layer(
        Norm(block.ln_1.weight, block.ln_1.bias, eps), linear(block.attn.c_attn),
        Attention(config.n_head, causal=True), linear(block.attn.c_proj),
        Norm(block.ln_2.weight, block.ln_2.bias, eps), linear(block.mlp.c_fc, GELU_TANH),
        linear(block.mlp.c_proj), norm_first=True,
    )


def joined(parts: list[nn.Module], precision: str) -> Linear:
    """Layers over the same input as one."""
    bias = None if parts[0].bias is None else torch.cat([p.bias for p in parts])
    return Linear(torch.cat([p.weight for p in parts]), bias, precision)


def llama_layer(config, block: nn.Module, precision: str) -> Layer:
    attn, mlp, eps = block.self_attn, block.mlp, config.rms_norm_eps
    gate, up = mlp.gate_proj, mlp.up_proj
    return Layer(
        Norm(block.input_layernorm.weight, None, eps),
        joined([attn.q_proj, attn.k_proj, attn.v_proj], precision),
        Attention(config.num_attention_heads, causal=True),
        Linear(attn.o_proj.weight, attn.o_proj.bias, precision),
        Norm(block.post_attention_layernorm.weight, None, eps),
        Linear(
            interleave(gate.weight, up.weight),
            None if gate.bias is None else interleave(gate.bias, up.bias), precision,
            SILU_MULTIPLY,
        ),
        Linear(mlp.down_proj.weight, mlp.down_proj.bias, precision), norm_first=True,
    )


def bert_layer(config, block: nn.Module) -> Layer:
    attn, eps = block.attention, config.layer_norm_eps

    def linear(layer: nn.Module, activation: int = NONE) -> Linear:
        return Linear(layer.weight, layer.bias, "fp32", activation)

    def norm(layer: nn.Module) -> Norm:
        return Norm(layer.weight, layer.bias, eps)

    return Layer(
        norm(attn.output.LayerNorm),
        joined([attn.self.query, attn.self.key, attn.self.value], "fp32"),
        Attention(config.num_attention_heads, causal=False), linear(attn.output.dense),
        norm(block.output.LayerNorm), linear(block.intermediate.dense, GELU),
        linear(block.output.dense), norm_first=False,
    )


class CausalLm(nn.Module):
    """A decoder over a caller's buffer.

    ids [T] int64; keys, values [layers, kv_heads, capacity, head_dim]; rows past..past+T are written
    in place. Without the kernels a prefill piece also reads, masked out, what lies up to the next
    block edge: the capacity must reach that edge and the contents must be finite.
    """

    def __init__(self, family: str, config, model: nn.Module, precision: str):
        super().__init__()
        self.rotary = family == "llama"
        self.block_tokens = 128
        self.native = False
        # The padding of the last piece may lie past the end of the context.
        spare = PAD_ROWS - 1
        cos, sin, positions = (torch.empty(0) for _ in range(3))
        if family == "gpt2":
            body = model.transformer
            layers = [gpt2_layer(config, block, precision) for block in body.h]
            embed, norm = body.wte, Norm(body.ln_f.weight, body.ln_f.bias, config.layer_norm_epsilon)
            positions = F.pad(body.wpe.weight.detach(), [0, 0, 0, spare])
        else:
            body = model.model
            layers = [llama_layer(config, block, precision) for block in body.layers]
            embed, norm = body.embed_tokens, Norm(body.norm.weight, None, config.rms_norm_eps)
            # The reference's own tables: its angles, and whatever scaling its config asks for.
            where = torch.arange(config.max_position_embeddings + spare).unsqueeze(0)
            cos, sin = body.rotary_emb(torch.empty(1, dtype=torch.float32), where)
            cos, sin = cos[0].contiguous(), sin[0].contiguous()
        tied = embed.weight.data_ptr() == model.lm_head.weight.data_ptr()
        # An embedding of its own is only looked up, so it needs no panels.
        table = torch.empty(0) if tied else embed.weight
        self.embed = constant(table if precision == "fp32" else table.bfloat16())
        self.positions = constant(positions)
        self.cos, self.sin = constant(cos), constant(sin)
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.head = Linear(model.lm_head.weight, None, precision)

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


class Encoder(nn.Module):
    """A BERT sentence encoder: ids [T] -> embedding [width] of unit length: the mean over the
    tokens, or the first one's ("cls")."""

    def __init__(self, config, model: nn.Module, pooling: str):
        super().__init__()
        self.pooling: str = pooling
        table = model.embeddings
        self.heads: int = config.num_attention_heads
        self.words = constant(table.word_embeddings.weight)
        # One sentence: every token is of type 0.
        self.positions = constant(
            table.position_embeddings.weight + table.token_type_embeddings.weight[0]
        )
        self.norm = Norm(table.LayerNorm.weight, table.LayerNorm.bias, config.layer_norm_eps)
        self.layers = nn.ModuleList(bert_layer(config, block) for block in model.encoder.layer)

    def forward(self, ids: Tensor) -> Tensor:
        count = ids.size(0)
        x = self.norm(F.embedding(ids, self.words) + self.positions.narrow(0, 0, count))
        # Each layer's keys and values, needed no longer than the layer.
        keys = torch.empty([self.heads, count, x.size(1) // self.heads], device=x.device)
        values, none = torch.empty_like(keys), torch.empty(0)
        for layer in self.layers:
            x = layer(x, count, 0, count, keys, values, None, none, none)
        pooled = x[0] if self.pooling == "cls" else x.mean(dim=0)
        return F.normalize(pooled, dim=0)

    @torch.jit.export
    def prepare(self, native: bool) -> None:
        self.norm.native = native
        for layer in self.layers:
            layer.prepare(native)
