"""`provenance/seal.json`: what was published, under a hash that only the holder of the key can make."""

from typing import Literal

from schemas.manifest import Record


class Seal(Record):
    """One hash over every commit record and every published file.

    `commits` holds a digest (32 hex digits) of each unit's commit record, which names the sha256 of its data files;
    `files` the sha256 of every other published file, by path; `hmac` is over all that stands here.
    """

    version: Literal[1] = 1
    algorithm: Literal["HMAC-SHA256"] = "HMAC-SHA256"
    key_id: str
    commits: dict[str, str]
    files: dict[str, str]
    hmac: str = ""
