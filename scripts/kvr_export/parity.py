"""Compares an archive's network and tokenizer with the reference's; what differs is not written."""

import json
from pathlib import Path

import torch
import transformers

from .networks import BLOCK_TOKENS
from .tokenizer.torture import TORTURE_TEXT

LOGIT_TOLERANCE = 1e-3  # absolute, fp32 against fp32
COSINE_FLOOR = 0.9999
PARITY_TOKENS = 200
GREEDY_TOKENS = 32
PROMPTS = Path(__file__).resolve().parents[2] / "configs" / "prompts"
DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"
JUDGED_TOKENS, JUDGED_WINDOW = 8192, 512
KL_CEILING = 0.01
TOP1_FLOOR = {"bf16": 0.97, "int8": 0.95}


class Different(Exception):
    """The archive and the reference disagree."""


def compare(network, kernels: bool, reference, words, metadata: dict) -> dict:
    """Figures for metadata.json of a loaded archive, run with the program's kernels or with torch's.
    Throws Different."""
    with torch.no_grad():
        if metadata["kind"] == "encoder":
            network.prepare(kernels)
            return encoder_parity(network, reference, words, metadata)
        network.prepare(BLOCK_TOKENS, kernels)
        if metadata["precision"] in ("fp32", "source"):  # which are the same numbers
            return language_model_parity(network, reference, metadata)
        if metadata["random_weights"]:
            return {"judged_tokens": 0}
        return judge(network, reference, words, metadata)


def tokenizer_parity(words) -> dict:
    ours, theirs = words.encode(TORTURE_TEXT), words.reference(TORTURE_TEXT)
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


@torch.no_grad()
def same_bits(lm, full, metadata: dict) -> dict:
    """Every logit of precision source against those of `full`, the same network at fp32, by the kernels:
    of seeded tokens, a window at once, but the last of the first window one by one. Throws Different."""
    shape, window = metadata["shape"], min(JUDGED_WINDOW, metadata["context_tokens"])
    random = torch.Generator().manual_seed(0)
    for network in (lm, full):
        network.prepare(BLOCK_TOKENS, True)
    for start in range(0, JUDGED_TOKENS, window):
        ids = torch.randint(0, shape["vocab"], (window,), generator=random)
        together, found = window - (8 if start == 0 else 0), []
        for network in (lm, full):
            keys, values = buffer(shape, window)
            logits = [network.all_logits(ids[:together], 0, keys, values)]
            logits += [network.decode(ids[at : at + 1], at, keys, values).unsqueeze(0)
                       for at in range(together, window)]
            found.append(torch.cat(logits))
        if not torch.equal(*found):
            raise Different(f"logits of tokens {start} to {start + window} are not fp32's to the bit")
    return {"bits_equal_positions": -(-JUDGED_TOKENS // window) * window}


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
