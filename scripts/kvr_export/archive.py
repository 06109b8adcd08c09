"""Builds the archive, proves it equal to the reference, and writes it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Callable

import torch
import transformers

from . import checkpoint, models, seal, tokenizer
from .refused import Damaged
from . import sources
from .sources import Source

FORMAT_VERSION = 3
LOGIT_TOLERANCE = 1e-3  # absolute, fp32 against fp32
COSINE_FLOOR = 0.9999
PARITY_TOKENS = 200
GREEDY_TOKENS = 32
BLOCK_TOKENS = 128
PROMPTS = Path(__file__).resolve().parents[2] / "configs" / "prompts"
DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"
JUDGED_TOKENS, JUDGED_WINDOW = 8192, 512
KL_CEILING = 0.01
TOP1_FLOOR = {"bf16": 0.97, "int8": 0.95}


class Different(Exception):
    """The archive and the reference disagree."""


def export(source: Source, out: Path, precision: str, say: Callable[[str], None]) -> None:
    # An unwritable place is better known before the work than after it.
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    partial.touch()
    try:
        say(f"reading {source.name} ({source.family})")
        reference = source.load()
        words = tokenizer.load(source.path, source.family)
        say("building the archive")
        config = reference.config
        if source.family == "bert":
            if precision != "fp32":
                raise ValueError(f"an encoder has precision fp32, not {precision}")
            module = models.Encoder(config, reference, sources.pooling(source.path))
        else:
            module = models.CausalLm(source.family, config, reference, precision)
        metadata = describe(source, module, reference, words, precision)
        check_ids(words, metadata)
        shape = metadata["shape"]
        # As KernelsFor in src/model/runtime.cc has it: whole vectors only.
        native = (
            models.load_kernels() and shape["head_dim"] % 16 == 0 and shape["width"] % 16 == 0
        )
        scripted = models.script(module)
        say("comparing it with the reference")
        compare_ids = tokenizer_parity(words)
        save(scripted, partial, metadata, words.model)
        # What is compared is what was written, as the program runs it: with its kernels where the
        # CPU has them, and with torch's.
        parity = {}
        for kernels in [False, True][: 1 + native]:
            written = torch.jit.load(str(partial))
            with torch.no_grad():
                if source.family == "bert":
                    written.prepare(kernels)
                    found = encoder_parity(written, reference, words, metadata)
                else:
                    written.prepare(BLOCK_TOKENS, kernels)
                    if precision == "fp32":
                        found = language_model_parity(written, reference, metadata)
                    elif metadata["random_weights"]:
                        found = {"judged_tokens": 0}
                    else:
                        found = judge(written, reference, words, metadata)
            parity["kernels" if kernels else "torch"] = found
        metadata["parity"] = {**compare_ids, **parity}
        save(scripted, partial, metadata, words.model)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    say(f"wrote {out} ({out.stat().st_size / 1e6:.0f} MB)")
    print(json.dumps({"archive": str(out), **metadata["parity"]}, indent=2))


def describe(
    source: Source, module: torch.nn.Module, reference: torch.nn.Module, words, precision: str
) -> dict:
    config = source.config
    if source.family == "gpt2":
        heads = kv_heads = config.n_head
        layers, width, context = config.n_layer, config.n_embd, config.n_positions
        head_dim = width // heads
    else:
        heads, layers = config.num_attention_heads, config.num_hidden_layers
        width = config.hidden_size
        kv_heads = getattr(config, "num_key_value_heads", heads) or heads
        head_dim = getattr(config, "head_dim", None) or width // heads
        context = config.max_position_embeddings
    if source.family == "bert":
        # What the sentence encoder was trained to read, where its folder says so.
        limit = source.path / "sentence_bert_config.json"
        if limit.is_file():
            context = min(context, checkpoint.read_json(limit).get("max_seq_length") or context)
    architecture = {
        "family": source.family,
        "shape": {
            "layers": layers, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim,
            "width": width, "vocab": config.vocab_size,
            "parameters": sum(
                p.numel() for n, p in reference.named_parameters() if not n.startswith("pooler.")
            ),
        },
        "context_tokens": context,
    }
    if source.family == "bert":
        architecture["pooling"] = module.pooling
    metadata = {
        "format_version": FORMAT_VERSION,
        "kind": "encoder" if source.family == "bert" else "language_model",
        "name": source.name,
        **architecture,
        "precision": precision,
        "eos_ids": eos_ids(source),
        "tokenizer": words.spec,
        "template": words.template,
        "random_weights": source.random_seed is not None,
        "seed": source.random_seed,
        "origin": source.origin,
    }
    metadata["weights_sha256"] = weights_sha256(module)
    metadata["fingerprint"] = fingerprint(module, architecture, words, precision)
    return metadata


def eos_ids(source: Source) -> list[int]:
    """All ids that end a text: the config's and those of generation_config.json, which generate
    goes by."""
    if source.family == "bert":
        return []
    found = [source.config.eos_token_id]
    generation = source.path / "generation_config.json"
    if generation.is_file():
        found.append(checkpoint.read_json(generation).get("eos_token_id"))
    ids: list[int] = []
    for eos in found:
        ids += eos if isinstance(eos, list) else [] if eos is None else [eos]
    return list(dict.fromkeys(ids))


def check_ids(words, metadata: dict) -> None:
    """No id of the tokenizer may lie outside the network's vocabulary."""
    vocab, spec = metadata["shape"]["vocab"], words.spec
    count = spec.get("vocab_size") or words.model.decode().count("\n") + 1
    if count > vocab:
        raise Damaged(f"the tokenizer has {count} ids, the network only {vocab} "
                      "(were tokens added without resizing the embeddings?)")
    for number in metadata["eos_ids"]:
        if not 0 <= number < vocab:
            raise Damaged(f"eos_token_id {number} lies outside the vocabulary of {vocab}")


def named_tensors(module: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    found = [*module.named_parameters(), *module.named_buffers()]
    for name, part in module.named_modules():
        if isinstance(part, models.Linear) and part.bias is not None:
            found.append((f"{name}.bias", part.bias))
    return sorted((n, t) for n, t in found if t.numel() > 0)


def weights_sha256(module: torch.nn.Module) -> str:
    """What `kvr model verify` computes again: SHA-256 over each weight's name and bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in named_tensors(module):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint(module: torch.nn.Module, architecture: dict, words, precision: str) -> str:
    """SHA-256 over format version, architecture, the networks' code and constants, precision,
    tokenizer and every weight."""
    digest = hashlib.sha256()
    epsilons = [part.eps for part in module.modules() if isinstance(part, models.Norm)]
    head = {
        "format_version": FORMAT_VERSION, "architecture": architecture, "precision": precision,
        "tokenizer": words.spec, "epsilons": epsilons,
        "code": hashlib.sha256(Path(models.__file__).read_bytes()).hexdigest(),
    }
    digest.update(json.dumps(head, sort_keys=True).encode())
    digest.update(words.model)
    for name, tensor in named_tensors(module):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save(scripted: torch.jit.ScriptModule, path: Path, metadata: dict, words: bytes) -> None:
    description = json.dumps(metadata, indent=1)
    extra = {"metadata.json": description, "tokenizer.model": words}
    torch.jit.save(scripted, str(path), _extra_files=extra)
    seal.seal(path, description.encode(), words)


def tokenizer_parity(words) -> dict:
    ours, theirs = words.encode(tokenizer.TORTURE_TEXT), words.reference(tokenizer.TORTURE_TEXT)
    if ours != theirs:
        at = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs))
        )
        raise Different(
            f"token ids of the built-in text differ at position {at}: "
            f"found {ours[at:at + 4]}, expected {theirs[at:at + 4]}"
        )
    return {"torture_text_ids": len(ours)}


def language_model_parity(lm, reference, metadata: dict) -> dict:
    shape, context = metadata["shape"], metadata["context_tokens"]
    length = min(PARITY_TOKENS, context - GREEDY_TOKENS)
    ids = torch.randint(
        0, shape["vocab"], (length,), generator=torch.Generator().manual_seed(0)
    )
    expected = reference(ids[None]).logits[0]

    keys, values = buffer(shape, length + GREEDY_TOKENS)
    found = lm.all_logits(ids, 0, keys, values)
    gap = (found - expected).abs().max().item()
    if not gap <= LOGIT_TOLERANCE:
        raise Different(f"logits differ by {gap:.2e}, allowed is {LOGIT_TOLERANCE:.0e}")

    # Neutral settings: penalties or beams of generation_config.json are not the network's.
    reference.generation_config = transformers.GenerationConfig()
    greedy = reference.generate(
        ids[None], max_new_tokens=GREEDY_TOKENS, min_new_tokens=GREEDY_TOKENS, do_sample=False,
        pad_token_id=0, attention_mask=torch.ones_like(ids[None]),
        # min_new_tokens hides the end token from the reference only; so that both see the same,
        # nothing ends the sequence.
        eos_token_id=-1,
    )[0, length:]
    logits, past, ours = found[-1], length, []
    for _ in range(GREEDY_TOKENS):
        ours.append(int(logits.argmax()))
        logits = lm.decode(torch.tensor([ours[-1]]), past, keys, values)
        past += 1
    if ours != greedy.tolist():
        at = next(i for i, (a, b) in enumerate(zip(ours, greedy.tolist())) if a != b)
        raise Different(f"greedy token {at} is {ours[at]}, the reference's is {greedy[at]}")
    return {
        "logit_tokens": length, "max_abs_logit_diff": gap, "greedy_tokens_equal": GREEDY_TOKENS,
    }


def buffer(shape: dict, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    capacity = -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS
    size = [shape["layers"], shape["kv_heads"], capacity, shape["head_dim"]]
    return torch.zeros(size), torch.zeros(size)


def judge(lm, reference, words, metadata: dict) -> dict:
    """The next-token distributions of a reduced precision against fp32's, on the project's prompts
    and documents: prose, chat, lists and code that no weight was fitted to. No line comes twice,
    since what can be copied from above is easy to predict."""
    texts = [
        json.loads(line)["text"]
        for file in sorted(PROMPTS.glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ] + [file.read_text() for file in sorted(DOCUMENTS.glob("*.md"))]
    lines = dict.fromkeys(line for text in texts for line in text.splitlines())
    shape, window = metadata["shape"], min(JUDGED_WINDOW, metadata["context_tokens"])
    ids = words.encode("\n".join(lines))[:JUDGED_TOKENS]
    divergence, agree = [], []
    for start in range(0, len(ids), window):
        piece = torch.tensor(ids[start : start + window])
        keys, values = buffer(shape, len(piece))
        expected = reference(piece[None]).logits[0].log_softmax(-1)
        found = lm.all_logits(piece, 0, keys, values).log_softmax(-1)
        divergence.append((expected.exp() * (expected - found)).sum(-1))
        agree.append((expected.argmax(-1) == found.argmax(-1)).float())
    result = {
        "judged_tokens": len(ids), "kl_mean": torch.cat(divergence).mean().item(),
        "top1": torch.cat(agree).mean().item(),
    }
    floor = TOP1_FLOOR[metadata["precision"]]
    if not (
        result["judged_tokens"] >= 4000
        and result["kl_mean"] <= KL_CEILING
        and result["top1"] >= floor
    ):
        raise Different(
            f"{metadata['precision']} is too far from fp32: over {len(ids)} tokens (4000 needed) the "
            f"mean KL divergence is {result['kl_mean']:.4f} (allowed {KL_CEILING}), top-1 agreement "
            f"{result['top1']:.3f} (required {floor})"
        )
    return result


def encoder_parity(encoder, reference, words, metadata: dict) -> dict:
    texts = [
        "How do I reset my password?", "photosynthesis",
        "The committee met on Tuesday. It agreed to publish the report before the end of the year, "
        "after the figures had been checked by somebody else.",
    ]
    worst = 1.0
    for text in texts:
        ids = torch.tensor(words.encode(text)[: metadata["context_tokens"]])
        hidden = reference(ids[None], attention_mask=torch.ones_like(ids[None])).last_hidden_state
        pooled = hidden[0, 0] if metadata["pooling"] == "cls" else hidden[0].mean(dim=0)
        expected = torch.nn.functional.normalize(pooled, dim=0)
        worst = min(worst, float(encoder(ids) @ expected))
    if not worst >= COSINE_FLOOR:
        raise Different(f"an embedding's cosine is {worst:.6f}, required is {COSINE_FLOOR}")
    return {"min_cosine": worst}
