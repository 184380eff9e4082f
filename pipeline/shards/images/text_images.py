"""Images that are stored as text: data URIs (`data:image/png;base64,...`) and plain base64, standard or URL-safe."""

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from pipeline.shards.images.formats import is_image, sniff, unsupported_format

_DATA_URI: Final = re.compile(r"data:([^,]{0,200}),", re.IGNORECASE)
_HEAD_CHARACTERS: Final = 64
_MIN_CHARACTERS: Final = 40  # of base64: no image is smaller, and many a path is
_SPACE: Final = re.compile(r"\s+")
_URL_SAFE: Final = str.maketrans("-_", "+/")


def image_in_text(text: str) -> bytes | None:
    """Return the image that a text encodes; None if it is none (it may be a path).

    A data URI may hold anything; plain base64 must begin with the magic number of an image.
    """
    text = text.strip()
    found = _DATA_URI.match(text)
    if found is not None:
        body = text[found.end() :]
        return _decoded(body) if found[1].lower().endswith(";base64") else unquote_to_bytes(body)
    if len(text) < _MIN_CHARACTERS:
        return None
    head = _decoded(text[:_HEAD_CHARACTERS])
    if head is None or (sniff(head) is None and unsupported_format(head) is None):
        return None
    data = _decoded(text)
    return data if data is not None and is_image(data) else None


def image_in_bytes(data: bytes) -> bytes | None:
    """Return the image that bytes of ASCII text encode; None if they encode none."""
    if sniff(data) is not None or not data[:_HEAD_CHARACTERS].isascii():
        return None
    try:
        return image_in_text(data.decode("ascii"))
    except UnicodeDecodeError:
        return None


def _decoded(text: str) -> bytes | None:
    """Return decoded base64, with or without line breaks and padding; None if the text is no base64."""
    plain = _SPACE.sub("", text).rstrip("=").translate(_URL_SAFE)
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
