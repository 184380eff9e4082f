"""Source checks: what the lineage records of each source row, against the shards where these can still be read."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.audit.source_shards import reopen
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


@dataclass
class SourceLink:
    """What the lineage records of one source row; `labels` are those of images whose operators keep the label."""

    sha256: str
    id: str | None
    labels: list[Any] = field(default_factory=list)


@dataclass
class SourceChecks:
    """Collects what rows record of their sources, and compares it with the shards; `read` counts compared rows."""

    links: dict[str, dict[int, SourceLink]] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)  # of one file in `data/`, by shard
    notes: list[str] = field(default_factory=list)
    read: int = 0

    def add(self, shard: str, row: Mapping[str, Any], mixed: bool) -> Iterator[str]:
        """Add a row of `data/` or `rejected/`; yield where it contradicts another row of the same source."""
        link = self._link(shard, row["source_row"], row["source_sha256"], row["source_id"])
        if link.sha256 != row["source_sha256"]:
            yield f"sample {row['sample_id']}: source_sha256 differs from another copy's"
        if link.id != row["source_id"]:
            yield f"sample {row['sample_id']}: source_id differs from another copy's"
        for partner in row["partners"]:
            if partner["source_row"] is not None and partner["source_uri"] == row["source_uri"]:
                other = self._link(shard, partner["source_row"], partner["sha256"], partner["source_id"])
                if other.sha256 != partner["sha256"]:
                    yield f"sample {row['sample_id']}: partner row {partner['source_row']} has another sha256 elsewhere"
        if not mixed and row["label"] not in link.labels:
            link.labels.append(row["label"])

    def add_quarantined(self, shard: str, row: Mapping[str, Any]) -> Iterator[str]:
        """Add a row of `quarantine/`, unless it has no bytes; yield where it contradicts another row."""
        data = row["image"]["bytes"]
        if data is not None:
            sha256 = hashlib.sha256(data).hexdigest()
            link = self._link(shard, row["source_row"], sha256, row["source_id"])
            if (link.sha256, link.id) != (sha256, row["source_id"]):
                yield f"shard {shard} row {row['source_row']}: what is quarantined differs from what images name"

    def _link(self, shard: str, row: int, sha256: str, name: str | None) -> SourceLink:
        return self.links.setdefault(shard, {}).setdefault(row, SourceLink(sha256, name))

    def findings(self, manifest: Manifest) -> Iterator[str]:
        """Read the source rows again where the shards can still be read; yield the differences."""
        records = {record.path: record for record in manifest.shards}
        for path, links in sorted(self.links.items()):
            if path in records:  # else the marker checks have a finding
                yield from self._shard(manifest, records[path], links)

    def _shard(self, manifest: Manifest, record: ShardRecord, links: Mapping[int, SourceLink]) -> Iterator[str]:
        try:
            shard, layout = reopen(manifest, record)
        except (PalimpsestError, OSError, ValueError) as error:
            self.notes.append(f"shard {record.path}: {len(links)} source links were not checked: {error}")
            return
        if shard.digest != record.digest:
            yield f"shard {record.path}: the source file has changed since the run"
            return
        now = with_column_digests((shard,), layout)[0].columns if record.columns else ()
        if names := changed_columns(tuple(record.columns.items()), now):
            yield f"shard {record.path}: column {', '.join(names)} of the source has changed since the run"
        if (shard.rows, shard.bytes) != (record.rows, record.bytes):
            yield f"shard {record.path}: {shard.rows} rows, and the manifest says {record.rows}"
        stated = list(layout.classes) if layout.class_source == CLASS_LABEL and layout.classes else None
        known = manifest.classes[: len(stated or ())]  # a shard may state the first ones alone
        if manifest.recipe["input"].get("class_names") is None and stated not in (None, known):
            yield f"shard {record.path}: its classes are not those of the manifest"
        wanted = RowSchema(layout.schema, layout.image, layout.carried_label).accepted.names
        if self.columns.get(record.path, wanted) != wanted:
            absent = sorted(set(wanted) ^ set(self.columns[record.path])) or ["their order"]
            yield f"shard {record.path}: the columns made from it differ from its own: {', '.join(absent)}"
        try:
            yield from self._rows(shard, layout, links)
        except PalimpsestError as error:
            yield f"shard {record.path}: its rows cannot be read: {error}"

    def _rows(self, shard: Shard, layout: Layout, links: Mapping[int, SourceLink]) -> Iterator[str]:
        last, unopened = min(max(links), shard.rows - 1), 0
        for _, rows in read_windows(shard, layout, 0, last + 1, _WINDOW_ROWS, OWN_FOLDER):
            for row in rows:
                if row.row in links and row.link is not None and row.error is not None:
                    unopened += 1
                elif row.row in links:
                    self.read += 1
                    yield from _row_findings(shard.path, row, links[row.row])
        if unopened:
            self.notes.append(
                f"shard {shard.path}: {unopened} images that its rows name were not checked: they are gone, or outside "
                "its folder, where no data set is followed to"
            )


def _row_findings(path: str, row: SourceRow, link: SourceLink) -> Iterator[str]:
    where = f"shard {path} row {row.row}"
    if hashlib.sha256(row.data or b"").hexdigest() != link.sha256:
        yield f"{where}: the source bytes are not those the lineage names"
    if row.id != link.id:
        yield f"{where}: its id is {row.id!r}, and the lineage says {link.id!r}"
    for label in link.labels:
        if label != row.label and repr(label) != repr(row.label):  # NaN is not equal to itself
            yield f"{where}: its label is {row.label!r}, and images made from it say {label!r}"
