"""Source checks: what the lineage records of each source row, against the shards where these can still be read."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.audit.source_shards import SourceShards
from pipeline.audit.verification import Verification
from pipeline.errors import PalimpsestError
from pipeline.lineage.records import RowSchema
from pipeline.shards.columns.class_metadata import CLASS_LABEL
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from pipeline.shards.identity import changed_columns, with_column_digests
from pipeline.shards.links.linked_images import OWN_FOLDER
from pipeline.shards.reader import SourceRow, read_windows
from schemas.manifest import Manifest, ShardRecord

_WINDOW_ROWS = 256
_UNOPENED = (
    "images that its rows name were not checked: they are gone, or outside its folder, where no data set is followed to"
)


@dataclass
class SourceLink:
    """What the lineage records of one source row; `labels` are those of images whose operators keep the label."""

    sha256: str
    id: str | None
    labels: list[Any] = field(default_factory=list)


@dataclass
class SourceChecks:
    """Collects what the rows of some units record of one range of one shard, and compares it with the shard.

    Attributes:
        links: by row of the shard.
        columns: every order of columns that files in `data/` have.
    """

    links: dict[int, SourceLink] = field(default_factory=dict)
    columns: dict[tuple[str, ...], None] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any], mixed: bool) -> Iterator[str]:
        """Add a row of `data/` or `rejected/`; yield where it contradicts another row of the same source."""
        link = self._link(row["source_row"], row["source_sha256"], row["source_id"])
        if link.sha256 != row["source_sha256"]:
            yield f"sample {row['sample_id']}: source_sha256 differs from another copy's"
        if link.id != row["source_id"]:
            yield f"sample {row['sample_id']}: source_id differs from another copy's"
        for partner in row["partners"]:
            if partner["source_row"] is not None and partner["source_uri"] == row["source_uri"]:
                other = self._link(partner["source_row"], partner["sha256"], partner["source_id"])
                if other.sha256 != partner["sha256"]:
                    yield f"sample {row['sample_id']}: partner row {partner['source_row']} has another sha256 elsewhere"
        if not mixed and row["label"] not in link.labels:
            link.labels.append(row["label"])

    def add_quarantined(self, shard: str, row: Mapping[str, Any]) -> Iterator[str]:
        """Add a row of `quarantine/`, unless it has no bytes; yield where it contradicts another row."""
        data = row["image"]["bytes"]
        if data is not None:
            sha256 = hashlib.sha256(data).hexdigest()
            link = self._link(row["source_row"], sha256, row["source_id"])
            if (link.sha256, link.id) != (sha256, row["source_id"]):
                yield f"shard {shard} row {row['source_row']}: what is quarantined differs from what images name"

    def _link(self, row: int, sha256: str, name: str | None) -> SourceLink:
        return self.links.setdefault(row, SourceLink(sha256, name))

    def check(self, sources: SourceShards, path: str, opens: bool, found: Verification) -> None:
        """Read the source rows again where the shard can still be read; add the differences.

        Args:
            opens: whether this is the first range of the shard, with which its columns are compared as a whole.
        """
        record = sources.record(path)
        if record is None or not (self.links or self.columns):  # without a record, the log checks have a finding
            return
        try:
            shard, layout = sources.open(path)
        except (PalimpsestError, OSError, ValueError) as error:
            found.not_checked(f"shard {path}", f"source links were not checked: {error}", len(self.links))
            return
        if shard.digest != record.digest:
            found.add(f"shard {path}: the source file has changed since the run")
            return
        if opens:
            found.extend(_shard_findings(sources.manifest, record, shard, layout))
        wanted = RowSchema(layout.schema, layout.image, layout.carried_label).accepted.names
        for names in self.columns:
            if list(names) != wanted:
                absent = sorted(set(wanted) ^ set(names)) or ["their order"]
                found.add(f"shard {path}: the columns made from it differ from its own: {', '.join(absent)}")
        try:
            self._rows(shard, layout, found)
        except PalimpsestError as error:
            found.add(f"shard {path}: its rows cannot be read: {error}")

    def _rows(self, shard: Shard, layout: Layout, found: Verification) -> None:
        inside = [row for row in self.links if isinstance(row, int) and 0 <= row < shard.rows]
        if not inside:
            return
        first, last = min(inside), max(inside)
        for _, rows in read_windows(shard, layout, first, last + 1 - first, _WINDOW_ROWS, OWN_FOLDER):
            for row in rows:
                if row.row in self.links and row.link is not None and row.error is not None:
                    found.not_checked(f"shard {shard.path}", _UNOPENED, 1)
                elif row.row in self.links:
                    found.source_links += 1
                    found.extend(_row_findings(shard.path, row, self.links[row.row]))


def _shard_findings(manifest: Manifest, record: ShardRecord, shard: Shard, layout: Layout) -> Iterator[str]:
    """Yield the differences of a shard from what the manifest says of it. Reads its columns beside the images."""
    now = with_column_digests((shard,), layout)[0].columns if record.columns else ()
    if names := changed_columns(tuple(record.columns.items()), now):
        yield f"shard {record.path}: column {', '.join(names)} of the source has changed since the run"
    if (shard.rows, shard.bytes) != (record.rows, record.bytes):
        yield f"shard {record.path}: {shard.rows} rows, and the manifest says {record.rows}"
    stated = list(layout.classes) if layout.class_source == CLASS_LABEL and layout.classes else None
    known = manifest.classes[: len(stated or ())]  # a shard may state the first ones alone
    if manifest.recipe["input"].get("class_names") is None and stated not in (None, known):
        yield f"shard {record.path}: its classes are not those of the manifest"


def _row_findings(path: str, row: SourceRow, link: SourceLink) -> Iterator[str]:
    where = f"shard {path} row {row.row}"
    if hashlib.sha256(row.data or b"").hexdigest() != link.sha256:
        yield f"{where}: the source bytes are not those the lineage names"
    if row.id != link.id:
        yield f"{where}: its id is {row.id!r}, and the lineage says {link.id!r}"
    for label in link.labels:
        if label != row.label and repr(label) != repr(row.label):  # NaN is not equal to itself
            yield f"{where}: its label is {row.label!r}, and images made from it say {label!r}"
