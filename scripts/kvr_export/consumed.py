"""The one place that refuses, by name, what a source says and no network would compute with.

transformers fills what it misses with random numbers and drops what it does not know, and the
archive's parity check, which takes the loaded model for the truth, can't see either. So every key of
the configuration has to be one that the family computes with, at a value that it can; every tensor of
the reference has to equal one of the files; every tensor of the files has to be used, or be one that
decides nothing; and our network has to take every tensor of the reference.
"""

import re
from pathlib import Path

import torch
import transformers

from . import files, gguf_file
from .families import FAMILIES
from .family import ANY, Family
from .files import some
from .refused import Damaged, Refused, one_line
from .weights import Weights

# Keys of config.json that change no result, of whatever family; and those that other parts read.
IGNORED_KEYS = {
    "model_type|architectures|_.*|transformers_version|transformers\\.js_config|unsloth_.*":
        "who wrote it, and what for",
    "kvr_random_weights|eos_token_id|quantization_config": "read by sources.py and archive.py",
    "tie_word_embeddings": "told by the tensors",
    "(bos|pad|sep|cls|mask|unk|decoder_start)_token_id|tokenizer_class": "the tokenizer's to say",
    "dtype|torch_dtype|use_bfloat16": "the reference computes in fp32",
    "initializer_range|gradient_checkpointing|problem_type|finetuning_task": "training",
    "id2label|label2id|num_labels": "a classifier's head",
    "is_decoder|use_cache|return_dict|torchscript|output_.*|chunk_size_feed_forward|attn_implementation|"
    "cache_implementation": "how the reference runs",
    "task_specific_params": "settings of generation",
}
NO_OTHER_KIND = {
    "is_encoder_decoder": (False,), "tie_encoder_decoder": (False,), "pruned_heads": ({},),
    "add_cross_attention": (False,),
}
# Keys of a GGUF file that say nothing of the arithmetic, or that the tokenizer is read from.
GGUF_HARMLESS = re.compile(
    r"GGUF\..*|general\..*|quantize\..*|split\..*|tokenizer\.(chat_templates?(\..*)?|huggingface\.json)|"
    r"tokenizer\.ggml\.(model|pre|tokens|token_type|token_type_count|scores|merges|add_bos_token|"
    r"add_space_prefix|\w+_token_ids?)"
)
GGUF_FALSE = re.compile(r"tokenizer\.ggml\.(add_eos_token|add_sep_token|remove_extra_whitespaces)")


# The configuration ------------------------------------------------------------------------------


def check_config(file: Path, family: Family, config) -> None:
    """`file` is a config.json or a GGUF file, `config` what transformers made of it. A key may be in one
    of them alone, since transformers has defaults, and renames."""
    raw, other = {}, generation_settings()
    if file.suffix == ".json":
        raw = {config.attribute_map.get(k, k): v for k, v in files.read_json(file).items()}
    else:
        check_gguf_keys(file, family, config)
        other |= set(config.to_dict())  # GGUF's own names among them, which are checked by now
    known = NO_OTHER_KIND | family.keys
    for said in (raw, config.to_dict()):
        for key, value in flat(said, known):
            if key in known:
                check_value(file, key, value, known[key])
            elif not ignored(key, family) and key not in other and value is not None:
                raise Refused(f"{file}: the key {key} ({one_line(value, 60)}) is not supported")


def generation_settings() -> set[str]:
    """Keys that config.json had before there was a generation_config.json."""
    return set(transformers.GenerationConfig().to_dict())


def flat(said: dict, known: dict):
    """Keys and values, those of an object one by one, with a dot, where a family knows one of them."""
    for key, value in said.items():
        if isinstance(value, dict) and any(k.startswith(f"{key}.") for k in known):
            yield from ((f"{key}.{k}", v) for k, v in value.items())
        else:
            yield key, value


def ignored(key: str, family: Family) -> bool:
    return any(re.fullmatch(p, key) for p in (*IGNORED_KEYS, *family.ignored_keys))


def check_value(file: Path, key: str, value, allowed: tuple | None) -> None:
    if allowed is ANY or value is None:
        return
    for part in value if isinstance(value, list) else [value]:
        if part not in allowed:
            supported = " or ".join(map(str, allowed))
            raise Refused(f"{file}: {key} is {one_line(part, 60)}; supported is {supported}")


def check_gguf_keys(path: Path, family: Family, config) -> None:
    """Each key below the architecture's name equals what the reference computes with."""
    reader = gguf_file.read(path)
    if (count := gguf_file.get(reader, "split.count", 1)) > 1:
        raise Refused(f"{path} is one of {count} parts; join them (llama-gguf-split --merge)")
    architecture = gguf_file.get(reader, "general.architecture")
    if architecture != family.gguf:
        known = ", ".join(f.gguf for f in FAMILIES.values() if f.gguf)
        raise Refused(f"{path}: architecture '{architecture}'; supported are {known}")
    heads, width = config.num_attention_heads, config.hidden_size
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
        name, found = key.removeprefix(f"{family.gguf}."), gguf_file.get(reader, key)
        if GGUF_FALSE.fullmatch(key) and not found:
            continue
        if key == name or name not in expected:
            raise Refused(f"{path}: the key {key} ({found}) is not supported")
        want = expected[name]
        same = abs(found - want) <= 1e-6 * abs(want) if isinstance(want, float) else found == want
        if not same:
            raise Refused(f"{path}: {key} is {found}, the reference computes with {want}")


# Tensors ----------------------------------------------------------------------------------------


def check_tensors(path: Path, family: Family, model: torch.nn.Module, raw: dict) -> None:
    """Throws Refused or Damaged unless `model` is what the files at `path` hold, all of it; `raw` is
    files.open_folder()'s or gguf_file.open_tensors()'s."""
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
        check_tensor(path, at, raw[at](), tensor)
        unused.discard(at)
        found_at.add(tensor.data_ptr())
    # A tied tensor is one with another name's.
    missing = [
        n for n in missing if state[n].data_ptr() not in found_at and not family.ignores_tensor(n)
    ]
    unused = {
        n for n in unused if not family.ignores_tensor(n) and not family.repeats(n, raw[n](), model)
    }
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


def check_tensor(path: Path, name: str, stored: torch.Tensor, loaded: torch.Tensor) -> None:
    if stored.shape != loaded.shape:
        raise Damaged(f"{path}: {name} has the shape {list(stored.shape)}, config.json makes it "
                      f"{list(loaded.shape)}")
    if not torch.equal(stored.to(loaded.dtype), loaded):
        raise Damaged(f"{path}: {name} was loaded with other values than the file has")


def check_network(path: Path, family: Family, weights: Weights) -> None:
    """After the network is built: no tensor may be left that it did not take."""
    if left := [name for name in weights.left if not family.ignores_tensor(name)]:
        raise Refused(f"{path}: our {family.name} network has no use for {some(left)}")
