"""SentencePiece models: those that come with a model, and those that are made here."""

import json

import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec
from tokenizers import Tokenizer

from .added import beginning, special_tokens, split
from .words import Words, words_of


Piece = ModelProto.SentencePiece


def model_proto(pieces, dummy_prefix: bool, byte_fallback: bool) -> bytes:
    """A SentencePiece BPE model with the identity normalizer; a piece is (text, score, type)."""
    model = ModelProto()
    for text, score, kind in pieces:
        model.pieces.add(piece=text, score=score, type=kind)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = TrainerSpec.BPE
    trainer.vocab_size = len(model.pieces)
    trainer.byte_fallback = byte_fallback
    trainer.unk_id = next(i for i, p in enumerate(model.pieces) if p.type == Piece.UNKNOWN)
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = dummy_prefix
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = byte_fallback  # as U+2581; byte-level text has no spaces
    return model.SerializeToString(deterministic=True)


def with_tokens(model: bytes, tokens: list[dict]) -> bytes:
    """The model with those tokens appended that it lacks."""
    found = ModelProto.FromString(model)
    for t in sorted(tokens, key=lambda t: t["id"]):
        count = len(found.pieces)
        if t["id"] > count:
            raise ValueError(f"token {t['text']!r}: id {t['id']} leaves a gap before it")
        if t["id"] == count:
            found.pieces.add(piece=t["text"], score=0.0, type=Piece.CONTROL)
        elif (piece := found.pieces[t["id"]].piece) != t["text"]:
            raise ValueError(
                f"token {t['id']}: added as {t['text']!r}, in tokenizer.model it is {piece!r}"
            )
    return found.SerializeToString(deterministic=True)


def from_sentencepiece(
    model: bytes, settings: dict, tokenizer: Tokenizer | None, added: list[dict]
) -> Words:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    special = [
        {"text": processor.id_to_piece(i), "id": i, "lstrip": False, "rstrip": False}
        for i in range(processor.get_piece_size())
        if processor.is_control(i) or processor.is_unknown(i)
    ]
    bos = [processor.bos_id()] if settings.get("add_bos_token", True) else []
    if not bos or bos[0] < 0:
        bos = [t["id"] for t in special if t["text"] == settings.get("bos_token")] if bos else []
    if tokenizer is not None:
        special = special_tokens(json.loads(tokenizer.to_str()))
        bos = tokenizer.encode("").ids
    else:
        numbers = {t["id"] for t in added}
        special = [t for t in special if t["id"] not in numbers] + added
    if tokenizer is not None or added:
        model = with_tokens(model, special)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    spec = {
        "kind": "sentencepiece", "vocab_size": processor.get_piece_size(), "special": special,
        **beginning(bos), "dummy_prefix": processor.encode("x", out_type=str)[0].startswith("\u2581"),
    }

    def encode(text: str) -> list[int]:
        ids = list(bos)
        for stretch, number in split(spec, text):
            ids += processor.encode(stretch) if number is None else [number]
        return ids

    if tokenizer is not None:
        return words_of(spec, model, tokenizer, encode)
    # No tokenizer.json: the SentencePiece library is itself the reference.
    return Words(spec, model, None, encode, processor.decode, encode)
