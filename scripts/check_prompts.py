#!/usr/bin/env python3
"""Checks that a pair of prompt files keeps the promises its "group" fields make.

    check_prompts.py configs/prompts/paper_cache.jsonl configs/prompts/paper_test.jsonl \\
        --tokenizer smollm2=SmolLM2-135M-Instruct.Q4_1.gguf --tokenizer gpt2=GPT2_FOLDER --block 128

A tokenizer is a GGUF file of SmolLM2, or a folder with tokenizer.json, or one with GPT-2's
vocab.json and merges.txt (also under their first names, encoder.json and vocab.bpe). Every
promise must hold under every tokenizer given. With --block, the cached prompts must also
touch the block edges and share one long opening under the first of them. Prints one line per
prompt (tokens / tokens in common with its nearest cached prompt), then each broken promise;
exit status 1 if there is one.
"""
import argparse
import json
import pathlib
import sys

from tokenizers import Tokenizer, models, pre_tokenizers

# Added tokens beyond the cached prompt: least and most.
ADDED = {"extends-short": (3, 15), "extends-long": (40, 150)}
GROUPS = [*ADDED, "diverges", "paraphrase", "unrelated", "word-goes-on"]
MIN_TOKENS, MAX_TOKENS = 20, 700  # 700 and 64 new ones stay inside GPT-2's 1024 positions
MIN_SHARED = 8  # a diverging prompt that shares less is no test of partial reuse
LONG_OPENING = 250


def load_tokenizer(path):
    path = pathlib.Path(path)
    if path.is_file():
        from gguf import GGUFReader

        fields = GGUFReader(path).fields
        if (pre := fields["tokenizer.ggml.pre"].contents()) != "smollm":
            sys.exit(f"{path}: found pre-tokenizer '{pre}', expected 'smollm'; give a folder")
        tokens = fields["tokenizer.ggml.tokens"].contents()
        merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
        tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
        # What the name "smollm" stands for: each digit alone, then GPT-2's pattern.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
        return tokenizer
    if (path / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(path / "tokenizer.json"))
    for vocab, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        if (path / vocab).is_file():
            tokenizer = Tokenizer(models.BPE.from_file(str(path / vocab), str(path / merges)))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            return tokenizer
    sys.exit(f"{path}: expected a GGUF file, or a folder with tokenizer.json or vocab.json")


def load(path, fields):
    prompts, number = [], 0
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                prompts.append(json.loads(line))
                if missing := fields - prompts[-1].keys():
                    sys.exit(f"{path}:{number}: found no {', '.join(sorted(missing))}")
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    except (ValueError, AttributeError) as error:
        sys.exit(f"{path}:{number}: expected one JSON object in UTF-8, found {error}")
    if not prompts:
        sys.exit(f"{path}: expected at least one prompt, found none")
    return prompts


def common(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def claim_broken(test, ids, cached, texts):
    """The reason why `test`, as tokens `ids`, is not what its group says; None if it is."""
    group, target = test["group"], test["extends"] or test.get("near")
    shared = {c: common(ids, cached[c]) for c in cached}
    if group in ("paraphrase", "unrelated"):
        met = [c for c in cached if shared[c]]
        if test["extends"] is not None or (test.get("near") in cached) != (group == "paraphrase"):
            return "'extends' must be null, and 'near' a cached prompt if this is a paraphrase"
        return f"its first token is also the first of {', '.join(met)}" if met else None
    if target not in cached:
        return f"names {target}, which is not a cached prompt"
    depth, size = shared[target], len(cached[target])
    if test["text"].startswith(texts[target]) != (test["extends"] is not None):
        return f"'extends' must name {target} exactly when the text begins with the whole of it"
    if group in ADDED:
        whole = [c for c in cached if shared[c] == len(cached[c])]
        longest = max(whole, key=shared.get, default="none")
        least, most = ADDED[group]
        if longest != target:
            return f"the longest whole prefix is {longest}, not {target} ({depth} of {size} tokens)"
        added = len(ids) - depth
        return None if least <= added <= most else f"adds {added} tokens, not {least} to {most}"
    if depth < max(shared.values()):
        return f"shares {depth} tokens with {target} but more with another cached prompt"
    if group == "diverges":
        good = test["extends"] is None and MIN_SHARED <= depth < min(size, len(ids))
        return None if good else f"shares {depth} of {size} tokens with {target}: not inside it"
    good = test["extends"] is not None and 0 < depth < size
    return None if good else f"shares {depth} of {size} tokens with {target}: no word goes on"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cache")
    parser.add_argument("test")
    parser.add_argument("--tokenizer", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--block", type=int, help="tokens in a block: demand prompts at its edges")
    args = parser.parse_args()
    tokenizers = {n: load_tokenizer(p) for n, _, p in (t.partition("=") for t in args.tokenizer)}
    cache = load(args.cache, {"id", "theme", "text"})
    tests = load(args.test, {"id", "group", "extends", "text"})
    texts = {c["id"]: c["text"] for c in cache}
    everything, broken = cache + tests, []
    if len({p["id"] for p in everything}) < len(everything):
        broken.append("an id is used twice")
    if len({p["text"] for p in everything}) < len(everything):
        broken.append("a text is used twice")
    for p in everything:
        if not p["text"] or p["text"] != p["text"].strip():
            broken.append(f"{p['id']}: is empty, or begins or ends with whitespace")
        if "<|" in p["text"]:
            broken.append(f"{p['id']}: holds '<|', the mark of a special token")
        if p.get("group", GROUPS[0]) not in GROUPS:
            broken.append(f"{p['id']}: unknown group '{p['group']}'")
    broken += [f"no prompt of group '{g}'" for g in GROUPS if g not in {t["group"] for t in tests}]
    rows = {p["id"]: f"{p['id']:5}{p.get('group', p.get('theme')):22}" for p in everything}
    for name, tokenizer in tokenizers.items():
        ids = {p["id"]: tokenizer.encode(p["text"]).ids for p in everything}
        cached = {c: ids[c] for c in texts}
        for p in everything:
            i, others = p["id"], {c: v for c, v in cached.items() if c != p["id"]}
            near = max(others, key=lambda c: common(ids[i], others[c]))
            depth = common(ids[i], others[near])
            rows[i] += f"{len(ids[i]):5} /{depth:4} {near if depth else '-':5}"
            if not MIN_TOKENS <= len(ids[i]) <= MAX_TOKENS:
                broken.append(f"{i}: {len(ids[i])} tokens under {name}, "
                              f"not {MIN_TOKENS} to {MAX_TOKENS}")
        for t in tests:
            if t["group"] in GROUPS and (why := claim_broken(t, ids[t["id"]], cached, texts)):
                broken.append(f"{t['id']} ({t['group']}, {name}): {why}")
        if args.block and name == next(iter(tokenizers)):
            rests = {len(v) % args.block for v in cached.values()}
            broken += [f"no cached prompt has a multiple of {args.block} {d:+} tokens under {name}"
                       for d in (-1, 0, 1) if d % args.block not in rests]
            opening = max(common(cached[a], cached[b]) for a in cached for b in cached if a < b)
            if opening < LONG_OPENING:
                broken.append(f"cached prompts share at most {opening} tokens, not {LONG_OPENING}")
    print(f"{'':27}" + "".join(f"{n:>17}" for n in tokenizers), *rows.values(), sep="\n")
    print(*(f"BROKEN {b}" for b in broken), sep="\n", end="\n" if broken else "")
    print(f"{len(cache)} cached, {len(tests)} tests, {len(broken)} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
