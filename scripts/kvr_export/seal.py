"""Seals an archive: digests of its bytes as the zip file's comment (docs/archive_format.md)."""

import struct
from pathlib import Path

import xxhash

NAME = b"kvr-seal-1"
DIGEST_CHARS = 32
PART = 4 << 20  # as src/model/archive_image.cc has it
END_RECORD = b"PK\x05\x06"  # the zip format's end of central directory, 22 bytes without a comment


def seal(path: Path, metadata: bytes, tokenizer: bytes) -> None:
    """Appends the seal to the archive that torch.jit.save has just written, and syncs nothing."""
    comment_bytes = len(NAME) + 3 * (1 + DIGEST_CHARS)
    with open(path, "r+b") as file:
        file.seek(-22, 2)
        end = file.read()
        if not end.startswith(END_RECORD) or end[-2:] != b"\0\0":
            raise ValueError(f"{path}: not a zip file without a comment")
        file.seek(-2, 2)
        file.write(struct.pack("<H", comment_bytes) + NAME)
        for record in (metadata, tokenizer):
            file.write(b" " + xxhash.xxh3_128_hexdigest(record).encode())
        file.write(b" ")
        file.seek(0)
        parts = []
        while part := file.read(PART):
            parts.append(xxhash.xxh3_128_hexdigest(part))
        file.write(xxhash.xxh3_128_hexdigest("".join(parts).encode()).encode())
