"""Check of the linked images of the first rows, so that refused links are reported before anything runs."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from pipeline.errors import InputError
from pipeline.messages import MAX_VALUE, one_line, short_repr
from pipeline.shards.columns.layout import Layout
from pipeline.shards.links.linked_images import ImageLinks, folder_of
from pipeline.shards.reader import SourceRow


def check_links(rows: Sequence[SourceRow], layout: Layout, links: ImageLinks) -> None:
    """Raise InputError if the recipe allows none of the links in these rows. Opens no link.

    If only some are refused, the run puts their rows into quarantine.
    """
    named = [row for row in rows if row.link is not None]
    if not named or any(row.data is not None for row in rows):
        return
    refused = [links.refusal(row.link or "", folder_of(row.uri)) for row in named]
    if None in refused:
        return
    name = named[0].link or ""
    raise InputError(
        f"input.columns.image: column {layout.image!r} holds names of files, and these are not opened: "
        f"{short_repr(name)} {refused[0]}{_remedy(name)}"
    )


def _remedy(name: str) -> str:
    if "://" in name and not name.startswith("file://"):
        parts = urlsplit(name)
        host = one_line(f"{parts.scheme}://{parts.netloc}/", MAX_VALUE)
        return f"; if you trust them, say input.allow_urls: [{host}]"
    if name.startswith(("/", "file://")):
        folder = PurePosixPath(name.removeprefix("file://")).parent
        return f"; if you trust them, say input.allow_paths: [{one_line(folder, MAX_VALUE)}]"
    return "; names start at the folder of their shard"
