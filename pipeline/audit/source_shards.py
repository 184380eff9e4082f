"""Source shards of a finished run, opened again as the run read them, unless their URI is unsafe to open."""

from functools import lru_cache

from pipeline.errors import InputError, PalimpsestError
from pipeline.shards.columns.layout import Layout, read_layout
from pipeline.shards.files.discovery import Shard, find_shard
from pipeline.shards.files.uris import is_local
from pipeline.shards.links.url_rules import HTTP, leads_inside
from schemas.manifest import Manifest, ShardRecord
from schemas.recipe import Recipe

SHARDS_KEPT = 8
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "memory")
"""Protocols that are opened, since this machine's settings and not the URI choose their host."""


class SourceShards:
    """The shards of a run, opened when they are first asked for; the last few stay known."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._records = {record.path: record for record in manifest.shards}
        self._open = lru_cache(SHARDS_KEPT)(self._opened)

    def record(self, path: str) -> ShardRecord | None:
        """Return what the manifest says of a shard; None where it does not list it."""
        return self._records.get(path)

    def open(self, path: str) -> tuple[Shard, Layout]:
        """Return a shard and its layout. Raises PalimpsestError, OSError or ValueError, as `reopen` does."""
        found = self._open(path)
        if isinstance(found, Exception):
            raise found
        return found

    def _opened(self, path: str) -> tuple[Shard, Layout] | Exception:
        try:
            return reopen(self.manifest, self._records[path])
        except (PalimpsestError, OSError, ValueError) as error:
            return error.with_traceback(None)


def reopen(manifest: Manifest, record: ShardRecord) -> tuple[Shard, Layout]:
    """Return one shard of a run, and the layout of columns that the run used.

    Raises:
        InputError: it is not there, not Parquet, or lacks a column; or its URI, which may be of a foreign data
            set, leads to a server inside this network. Whether it has changed is the caller's to see.
    """
    if (why := _refusal(record.uri)) is not None:
        raise InputError(f"{record.uri}: {why}; a data set's manifest opens no such place")
    wanted = Recipe.model_validate(manifest.recipe).input
    shard = find_shard(record.uri, record.path, ".")
    return shard, read_layout((shard,), wanted.columns, wanted.drop, manifest.input, strict=False)


def _refusal(uri: str) -> str | None:
    """Return why a shard's URI is not opened; None where it is safe."""
    if is_local(uri):
        return None
    protocol = uri.partition("://")[0].lower()
    if protocol in STORES and "::" not in uri:
        return None
    if protocol not in HTTP:
        return f"{protocol}:// is no local file, object store or web address"
    try:
        return leads_inside(uri)
    except OSError as error:
        return f"its host is not known: {error}"
