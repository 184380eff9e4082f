"""The payload of a mark: 64 bits that identify a sample to whoever has the key, and are random to anybody else.

    48 bits  name   keyed hash of the sample id; the data set's own rows map it back
    16 bits  tag    keyed hash of the name; a random word passes with probability 2^-16

Two rows of one data set share a name with probability N^2 / 2^49: 2e-5 for 100,000 rows, 0.2 % for a million; so a
finder looks for all rows of a name. The tag alone is no proof of a mark: see `pipeline.watermark.confidence` for the
whole count.
"""

import hashlib
import hmac
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.watermark_key import derived_key

NAME_BITS = 48
TAG_BITS = 16
BITS = NAME_BITS + TAG_BITS
HEX_DIGITS = BITS // 4
PREFIX = "hmac-sha256:"
DIGEST_DIGITS = 32
_NAME = b"palimpsest name/"


def payload(key: bytes, sample_id: str) -> int:
    """Return the word in [0, 2^64) that marks the sample: name in the high 48 bits, tag in the low 16."""
    return from_name(key, hmac.digest(key, _NAME + sample_id.encode(), "sha256")[: NAME_BITS // 8])


def from_name(key: bytes, name: bytes) -> int:
    """Return the word of a name of 6 bytes: with its tag."""
    return int.from_bytes(name + _tag(key, name), "big")


def names(key: bytes, samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return [N, 6] uint8 the names of samples whose ids, of 32 hex digits, have the bytes [N, 16] uint8."""
    inner, outer = _hmac_states(key, _NAME)
    found = bytearray()
    digits = samples.tobytes().hex().encode()
    width = 2 * samples.shape[1]
    for place in range(0, len(digits), width):
        first, second = inner.copy(), outer.copy()
        first.update(digits[place : place + width])
        second.update(first.digest())
        found += second.digest()[: NAME_BITS // 8]
    return np.frombuffer(bytes(found), np.uint8).reshape(-1, NAME_BITS // 8)


def _hmac_states(key: bytes, prefix: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """Return the inner and outer hash of an HMAC (RFC 2104) whose message begins with `prefix`: copied for each one."""
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
    inner.update(prefix)
    return inner, outer


def check(key: bytes, word: int) -> bool:
    """Say whether the tag of `word` was made from its name with `key`."""
    data = word.to_bytes(BITS // 8, "big")
    return hmac.compare_digest(data[NAME_BITS // 8 :], _tag(key, data[: NAME_BITS // 8]))


def keyed_digest(key: bytes, word: int) -> str:
    """Return the keyed hash of `word` that lineage holds; without the key, neither can be computed from the other.

    Rows of earlier versions hold the word itself (`to_text`): see `stands_for`.
    """
    own = derived_key(key, "payload digest/1")
    return PREFIX + hmac.new(own, word.to_bytes(BITS // 8, "big"), hashlib.sha256).hexdigest()[:DIGEST_DIGITS]


def stands_for(key: bytes, recorded: str, word: int) -> bool:
    """Return whether a payload that is recorded in lineage, by this version or an earlier one, is `word`."""
    return recorded in (keyed_digest(key, word), to_text(word))


def is_clear(recorded: str) -> bool:
    """Return whether a recorded payload is the word itself, as earlier versions wrote it."""
    return not recorded.startswith(PREFIX)


def to_text(word: int) -> str:
    """Return the 16 hex digits of `word`."""
    return f"{word:0{HEX_DIGITS}x}"


def from_text(text: str) -> int:
    """Return the word of 16 hex digits.

    Raises:
        ValueError: the text is anything else.
    """
    if len(text) != HEX_DIGITS or not set(text) <= set("0123456789abcdef"):
        raise ValueError(f"payload {text!r}: expected {HEX_DIGITS} hex digits in lower case")
    return int(text, 16)


def to_bits(words: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Return [N, 64] bits, highest first."""
    return np.unpackbits(np.array(words, dtype=">u8").view(np.uint8).reshape(-1, BITS // 8), axis=1)


def from_bits(bits: npt.NDArray[np.uint8]) -> list[int]:
    """Return the N words of [N, 64] bits."""
    return [int(word) for word in np.packbits(bits, axis=1).view(">u8").reshape(-1)]


def _tag(key: bytes, name: bytes) -> bytes:
    return hmac.digest(key, b"palimpsest tag/" + name, "sha256")[: TAG_BITS // 8]
