"""What a checkpoint's files hold, by our own reading, against the reference that transformers made.

transformers fills what it misses with random numbers and drops what it does not know, and the
archive's parity check, which takes the loaded model for the truth, can't see either. So every tensor
of the reference has to equal one of the files, under a name that the rules below give, and every
tensor of the files has to be used or be on the list of those that decide nothing.
"""

import json
import re
from functools import cache
from pathlib import Path

import torch

from .refused import Damaged, Refused

LFS_POINTER = b"version https://git-lfs"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")

# Of the files' tensors, by full name: those that decide nothing in our networks.
IGNORED = {
    "gpt2": r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",  # the causal mask
    "llama": r"(?!)",
    "bert": r"(bert\.)?embeddings\.position_ids|(bert\.)?pooler\..*|cls\..*",  # heads of training
}

# GGUF's names (llama.cpp, gguf-py's constants) and transformers'.
GGUF_NAMES = {
    "llama": {
        "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
        "blk.N.attn_q": "model.layers.N.self_attn.q_proj",
        "blk.N.attn_k": "model.layers.N.self_attn.k_proj",
        "blk.N.attn_v": "model.layers.N.self_attn.v_proj",
        "blk.N.attn_output": "model.layers.N.self_attn.o_proj",
        "blk.N.attn_norm": "model.layers.N.input_layernorm",
        "blk.N.ffn_norm": "model.layers.N.post_attention_layernorm",
        "blk.N.ffn_gate": "model.layers.N.mlp.gate_proj",
        "blk.N.ffn_up": "model.layers.N.mlp.up_proj",
        "blk.N.ffn_down": "model.layers.N.mlp.down_proj",
    },
    "gpt2": {
        "token_embd": "transformer.wte", "position_embd": "transformer.wpe",
        "output_norm": "transformer.ln_f", "output": "lm_head",
        "blk.N.attn_norm": "transformer.h.N.ln_1", "blk.N.ffn_norm": "transformer.h.N.ln_2",
        "blk.N.attn_qkv": "transformer.h.N.attn.c_attn",
        "blk.N.attn_output": "transformer.h.N.attn.c_proj",
        "blk.N.ffn_up": "transformer.h.N.mlp.c_fc", "blk.N.ffn_down": "transformer.h.N.mlp.c_proj",
    },
}
# Keys of a GGUF file that say nothing of the arithmetic, and those below the architecture's name
# that do and are checked.
GGUF_HARMLESS = re.compile(r"GGUF\..*|general\..*|tokenizer\..*|quantize\..*|split\..*")


def open_folder(path: Path) -> dict:
    """Each tensor of a folder's weights as a function that reads it, by name."""
    for adapter in sorted(path.glob("adapter_*")):
        raise Refused(f"{adapter}: an adapter beside the weights; merge it into them, export that")
    for name in WEIGHTS:
        index = path / f"{name}.index.json"
        if (path / name).is_file():
            return open_file(path / name)
        if index.is_file():
            found = {}
            for shard in sorted(set(read_json(index).get("weight_map", {}).values())):
                found |= open_file(path / shard)
            declared = set(read_json(index)["weight_map"])
            if declared != set(found):
                raise Damaged(f"{index}: {some(declared ^ set(found))} not as the index says")
            return found
    raise Damaged(f"{path}: no weights; expected one of {', '.join(WEIGHTS)} or its index")


def open_file(path: Path) -> dict:
    if not path.is_file():
        raise Damaged(f"{path} is missing; fetch the model again")
    refuse_pointer(path)
    if path.suffix == ".safetensors":
        import safetensors

        try:
            file = safetensors.safe_open(str(path), framework="pt")
        except Exception as error:  # SafetensorError has no public base
            raise Damaged(f"{path} can't be read ({error}); fetch it again") from error
        return {name: lambda name=name: file.get_tensor(name) for name in file.keys()}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise Damaged(f"{path} can't be read ({type(error).__name__}); fetch it again") from error
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        raise Damaged(f"{path}: expected a flat dictionary of tensors")
    return {name: lambda name=name: state[name] for name in state}


def refuse_pointer(path: Path) -> None:
    with open(path, "rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise Damaged(f"{path} is a Git LFS pointer, not the file; run: git lfs pull")


def read_json(path: Path, kind: type = dict):
    refuse_pointer(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: not valid JSON ({error})") from error
    if not isinstance(found, kind):
        expected = "an object" if kind is dict else "a list"
        raise Damaged(f"{path}: expected {expected} of JSON")
    return found


def some(names) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check(path: Path, family: str, model: torch.nn.Module, raw: dict | None) -> None:
    """Throws Refused or Damaged unless `model` is what the files at `path` hold, all of it; `raw` is
    open_folder()'s, or None for a GGUF file."""
    raw = open_gguf(path, model) if raw is None else raw
    # Names from before transformers 2: LayerNorm's gamma and beta.
    legacy = {re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", n)): n for n in raw}
    state, unused = model.state_dict(), set(raw)
    prefix = model.base_model_prefix + "."
    found_at: set[int] = set()
    missing = []
    for name, tensor in state.items():
        names = [name, name.removeprefix(prefix), prefix + name]
        at = next((legacy[n] for n in names if n in legacy), None)
        if at is None:
            missing.append(name)
            continue
        stored = raw[at]()
        if stored.shape != tensor.shape and stored.T.shape == tensor.shape and path.is_file():
            stored = stored.T  # GPT-2's layers lie the other way in a GGUF file
        if stored.shape != tensor.shape:
            raise Damaged(
                f"{path}: {at} has the shape {list(stored.shape)}, config.json makes it "
                f"{list(tensor.shape)}"
            )
        if not torch.equal(stored.to(tensor.dtype), tensor):
            raise Damaged(f"{path}: {at} was loaded with other values than the file has")
        unused.discard(at)
        found_at.add(tensor.data_ptr())
    # A tied tensor is one with another name's.
    missing = [n for n in missing if state[n].data_ptr() not in found_at]
    if family == "bert":
        missing = [n for n in missing if not n.startswith("pooler.")]  # not part of our network
    unused = {n for n in unused if not re.fullmatch(IGNORED[family], n) and not derived(n, raw, model)}
    if missing and unused:
        raise Damaged(
            f"{path}: the model needs {some(missing)}; the checkpoint has {some(unused)} instead. "
            "Rename its tensors (a wrapper's prefix?), or complete it"
        )
    if missing:
        raise Damaged(f"{path}: the checkpoint lacks {some(missing)}; it is incomplete, or "
                      "config.json is another model's")
    if unused:
        raise Refused(f"{path}: the network of config.json has no use for {some(unused)}")


def derived(name: str, raw: dict, model: torch.nn.Module) -> bool:
    """Whether the tensor repeats what the model has already: a tied head, rotary frequencies."""
    if name.endswith("rotary_emb.inv_freq"):
        expected = model.model.rotary_emb.inv_freq
        return torch.allclose(raw[name]().float(), expected.float(), rtol=1e-3)
    if name == "lm_head.weight":
        return torch.equal(raw[name]().float(), model.get_input_embeddings().weight.float())
    return False


# GGUF -------------------------------------------------------------------------------------------


def open_gguf(path: Path, model: torch.nn.Module) -> dict:
    import gguf

    reader = read_gguf(path)
    architecture = reader.fields["general.architecture"].contents()
    if (count := get(reader, "split.count", 1)) > 1:
        raise Refused(f"{path} is one of {count} parts; join them (llama-gguf-split --merge)")
    if architecture not in GGUF_NAMES:
        raise Refused(f"{path}: architecture '{architecture}'; supported are {', '.join(GGUF_NAMES)}")
    check_gguf_keys(path, reader, architecture, model.config)
    names, config = GGUF_NAMES[architecture], model.config
    found = {}
    for tensor in reader.tensors:
        stem, _, kind = tensor.name.rpartition(".")
        number = re.match(r"blk\.(\d+)\.", stem)
        stem = re.sub(r"^blk\.\d+\.", "blk.N.", stem)
        name = names.get(stem)
        if name is None:
            found[tensor.name] = lambda: torch.empty(0)  # nobody asks for it: refused by its name
            continue
        if number:
            name = name.replace(".N.", f".{number[1]}.")
        heads = None
        if architecture == "llama" and stem.endswith(("attn_q", "attn_k")):
            key = "num_attention_heads" if stem.endswith("attn_q") else "num_key_value_heads"
            heads = getattr(config, key)

        def load(tensor=tensor, heads=heads):
            values = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
            if heads is not None:  # llama.cpp pairs neighbours where transformers pairs halves
                pairs = values.view(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
                values = pairs.transpose(1, 2).reshape(values.shape)
            return values

        found[f"{name}.{kind}"] = load
    return found


@cache  # three parts of the exporter look into it, and parsing takes seconds
def read_gguf(path: Path):
    import gguf

    refuse_pointer(path)
    try:
        return gguf.GGUFReader(path)
    except Exception as error:  # numpy's and struct's, by where the file ends
        raise Damaged(f"{path} is no whole GGUF file ({error}); fetch it again") from error


def get(reader, key: str, default=None):
    field = reader.fields.get(key)
    return default if field is None else field.contents()


def check_gguf_keys(path: Path, reader, architecture: str, config) -> None:
    """Each key below the architecture's name equals what the reference computes with."""
    heads = config.num_attention_heads if architecture == "llama" else config.n_head
    width = config.hidden_size
    head_dim = getattr(config, "head_dim", None) or width // heads
    rope = getattr(config, "rope_parameters", None) or {}
    expected = {
        "block_count": config.num_hidden_layers, "context_length": config.max_position_embeddings,
        "embedding_length": width, "attention.head_count": heads, "vocab_size": config.vocab_size,
        "attention.head_count_kv": getattr(config, "num_key_value_heads", heads),
        "attention.key_length": head_dim, "attention.value_length": head_dim,
        "rope.dimension_count": head_dim, "rope.freq_base": rope.get("rope_theta"),
        "attention.layer_norm_rms_epsilon": getattr(config, "rms_norm_eps", None),
        "attention.layer_norm_epsilon": getattr(config, "layer_norm_epsilon", None),
        "feed_forward_length": getattr(config, "intermediate_size", None)
        or getattr(config, "n_inner", None) or 4 * width,
        "rope.scaling.type": "none", "expert_count": 0, "expert_used_count": 0,
    }
    for key in reader.fields:
        if GGUF_HARMLESS.fullmatch(key):
            continue
        name, found = key.removeprefix(architecture + "."), get(reader, key)
        if key == name or name not in expected:
            raise Refused(f"{path}: the key {key} ({found}) is not supported")
        want = expected[name]
        same = abs(found - want) <= 1e-6 * abs(want) if isinstance(want, float) else found == want
        if not same:
            raise Refused(f"{path}: {key} is {found}, the reference computes with {want}")
