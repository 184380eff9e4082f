"""`provenance/seal.json`: what was published, under a hash that only the holder of the key can make."""

from typing import Literal

from schemas.manifest import Record


class Seal(Record):
    """One hash over the commit log and every published file.

    `files` holds the sha256 of every published file but the data files, by path: the segments of the commit log, which
    name the sha256 of those, among them. `hmac` is over all that stands here.
    """

    version: Literal[2] = 2
    algorithm: Literal["HMAC-SHA256"] = "HMAC-SHA256"
    key_id: str
    files: dict[str, str]
    hmac: str = ""
