"""The content of the report: gate scores, reasons, and sample images of every branch and class beside their source."""

import logging
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.audit.source_shards import SourceShards
from pipeline.errors import InputError, PalimpsestError
from pipeline.lineage.page import Card, GateLine, Sheet, Tile, page
from pipeline.messages import error_line, one_line
from pipeline.plan import ORIGINAL
from pipeline.publishing.manifest import read_manifest
from pipeline.publishing.seal import SEAL, is_sealed, seal_file
from pipeline.shards.cursor import CursorCache
from pipeline.shards.images.codecs import decode, encode, resize
from pipeline.shards.links.linked_images import OWN_FOLDER
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.record_columns import STATE_COLUMNS, check_values
from pipeline.shards.output.store import Store
from pipeline.shards.output.unit_files import MADE
from pipeline.shards.reader import read_windows
from schemas.manifest import Counts, Manifest

_log = logging.getLogger(__name__)

REPORT = "report/index.html"
MAX_CLASSES = 100
"""Classes of a branch that the page shows at most."""
MAX_NAME = 100
"""Characters of the name of a class on the page."""
SOURCES_PER_CLASS = 2
SOURCES_WITHOUT_CLASSES = 12
FILES_READ = 12
"""Files of a branch that are read for sample images and scores: those whose hashes are the smallest."""
TILE_PX = 160
COLUMNS = ["image", "label", "sample_id", "source_uri", "source_row", "source_id", "copy_index", "steps", "partners"]


class FilesRead:
    """Some of the files of each branch, the same whatever the order of the log; of a few, all."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], pa.Table] = {}

    def add(self, table: pa.Table) -> None:
        """Add units: rows of the log with checked values."""
        for folder in MADE:
            file = table[f"{folder}_file"]
            columns = {name: pc.struct_field(file, name) for name in ("path", "sha256")}
            files = pa.table({**columns, "unit": table["unit"], "branch": table["branch"]}).filter(pc.is_valid(file))
            for branch in files["branch"].unique().to_pylist():
                own = [files.filter(pc.equal(files["branch"], branch))]
                whole = pa.concat_tables([*own, self._held.get((branch, folder), own[0].slice(0, 0))])
                keys = [("sha256", "ascending"), ("unit", "ascending")]
                self._held[branch, folder] = whole.take(pc.select_k_unstable(whole, FILES_READ, keys))

    def of(self, branch: str, folder: str) -> list[str]:
        """Return the paths of files of a branch, by unit."""
        if (branch, folder) not in self._held:
            return []
        found: list[str] = self._held[branch, folder].sort_by("unit")["path"].to_pylist()
        return found


@dataclass
class ShownRows:
    """The rows of one branch that the page shows, by class and source; `classes` are the class names."""

    classes: list[str]
    rows: dict[Any, dict[Any, list[dict[str, Any]]]] = field(default_factory=dict)

    def add(self, row: dict[str, Any], limit: int, synthetic: bool) -> None:
        label = row["label"]
        if self.classes and isinstance(label, float) and label.is_integer():  # as pandas writes numbers beside nulls
            label = int(label)
        # what is neither text nor a whole number is no class: carried as it was
        sources = self.rows.setdefault(label if isinstance(label, str | int) else None, {})
        key = row["sample_id"] if synthetic else (row["source_uri"], row["source_row"])
        if key in sources or len(sources) < limit:
            sources.setdefault(key, []).append(row)

    def full(self, classes: int, limit: int) -> bool:
        return len(self.rows) >= max(1, classes) and all(len(sources) >= limit for sources in self.rows.values())


def write_report(store: Store, manifest: Manifest, log: CommitLog | None = None) -> None:
    """Write `report/index.html`, one page that needs no other file.

    Args:
        log: that the manifest describes; None: the data set has no other segments.
    """
    files = FilesRead()
    for place, table in (log or CommitLog(store)).places(STATE_COLUMNS):
        check_values(table, place.segment.path)
        files.add(table)
    sources = SourceImages(manifest)
    sheets = [_sheet(store, manifest, files, chain, sources) for chain in manifest.chains if chain["name"] != ORIGINAL]
    troubles = {"rejected": manifest.counts.reasons, "quarantined": manifest.counts.quarantine_reasons}
    gates = [line for chain in manifest.chains for line in _gate_lines(store, manifest, files, chain)]
    text = page(manifest, [sheet for sheet in sheets if sheet.cards], troubles, gates)
    store.write(REPORT, text.encode())


def renew_report(store: Store, key: bytes | None = None) -> None:
    """Write the report anew, and into the data set's seal where there is the key; else warn that it is not in it."""
    write_report(store, read_manifest(store))
    if not store.exists(SEAL) or is_sealed(store, REPORT):
        return
    if key is None:
        _log.warning("the seal is of another report: give the key, or `verify` will name it")
    else:
        seal_file(store, REPORT, key)


def _sheet(store: Store, manifest: Manifest, files: FilesRead, chain: dict[str, Any], sources: "SourceImages") -> Sheet:
    synthetic = chain["copies"] == 0
    limit = SOURCES_PER_CLASS * (4 if synthetic else 1) if manifest.classes else SOURCES_WITHOUT_CLASSES
    found = ShownRows(manifest.classes)
    for row in _rows(store, files.of(chain["name"], "data"), COLUMNS):
        found.add(row, limit, synthetic)
        if found.full(len(manifest.classes), limit) and row["copy_index"] == chain["copies"] - 1:
            break
    cards = []
    for label in sorted(found.rows, key=str)[:MAX_CLASSES]:
        named = manifest.classes[label] if isinstance(label, int) and 0 <= label < len(manifest.classes) else str(label)
        lines = []
        for rows in found.rows[label].values():
            tiles = [] if synthetic else [sources.tile(rows[0])]
            lines.append(tiles + [_tile(store, row) for row in rows])
        if synthetic:  # one line of many images says more than many lines of one
            lines = [[tile for line in lines for tile in line]]
        cards.append(Card("" if label is None else one_line(named, MAX_NAME), lines))
    text = " → ".join(step["operator"] for step in chain["steps"])
    if len(found.rows) > MAX_CLASSES:
        text += f" ({MAX_CLASSES} of {len(found.rows)} classes)"
    return Sheet(chain["name"], text, cards)


def _rows(store: Store, paths: Sequence[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield rows of files, a row group at a time; no more of a file is read than is asked for."""
    for path in paths:
        try:
            with store.open(path) as stream:
                file = pq.ParquetFile(stream, pre_buffer=True)
                for group in range(file.num_row_groups):
                    yield from file.read_row_group(group, columns=[*columns], use_threads=False).to_pylist()
        except FileNotFoundError:
            raise InputError(f"{store.uri}/{path}: the file is missing; see `palimpsest verify`") from None
        except pa.ArrowException as error:
            raise InputError(f"{store.uri}/{path}: cannot be read: {error_line(error)}") from None


def _gate_lines(store: Store, manifest: Manifest, files: FilesRead, chain: dict[str, Any]) -> list[GateLine]:
    """Return a line for each of a branch's gates; the scores are those of some files."""
    branch, gates = chain["name"], [gate["gate"] for gate in chain.get("gates", ())]
    if not gates:
        return []
    refused: dict[str, list[float]] = {gate: [] for gate in gates}
    kept: dict[str, list[float]] = {gate: [] for gate in gates}
    for row in _rows(store, files.of(branch, "rejected"), ["quality", "rejected_reason"]):
        if row["rejected_reason"] in refused:
            scores = {score["gate"]: score["score"] for score in row["quality"]}
            refused[row["rejected_reason"]].append(scores[row["rejected_reason"]])
    for row in _rows(store, files.of(branch, "data"), ["quality"]):
        for score in row["quality"]:
            kept[score["gate"]].append(score["score"])
    counts = manifest.branches.get(branch, Counts()).reasons
    return [GateLine(branch, gate, counts.get(gate, 0), _spread(refused[gate]), _spread(kept[gate])) for gate in gates]


def _spread(scores: list[float]) -> tuple[float, float, float] | None:
    """Return the lowest, the median and the highest score; None where there is none."""
    numbers = sorted(score for score in scores if not math.isnan(score))
    return (numbers[0], statistics.median(numbers), numbers[-1]) if numbers else None


def _tile(store: Store, row: dict[str, Any]) -> Tile:
    steps = "; ".join(f"{step['operator']} {step['params']}" for step in row["steps"])
    partner = next((partner for partner in row["partners"] if partner["role"] == "style"), None)
    inset = None
    if partner is not None and store.exists(f"_artifacts/{partner['sha256']}"):
        inset = thumbnail(store.read(f"_artifacts/{partner['sha256']}"), 48)
    caption = row["sample_id"][:8] if row["source_row"] is None else f"copy {row['copy_index']}"
    return Tile(thumbnail(row["image"]["bytes"]), caption, f"{row['sample_id']}\n{steps}", inset)


def thumbnail(data: bytes, max_px: int = TILE_PX, bit_depth: int | None = None) -> tuple[bytes, str]:
    """Return an encoded image of at most `max_px`, and its media type; a smaller image is not resized."""
    pixels = decode(data, 2**31, bit_depth)
    height, width = pixels.shape[:2]
    scale = max_px / max(height, width)
    if scale >= 1:
        return encode(pixels, "png", 90), "image/png"
    small = resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    return encode(small, "jpeg", 85), "image/jpeg"


class SourceImages:
    """Tiles of source images, read from the shards where these can still be read."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._records = {shard.uri: shard for shard in manifest.shards}
        self._shards = SourceShards(manifest)
        self._cursors = CursorCache()

    def tile(self, row: dict[str, Any]) -> Tile:
        shard_name = row["source_uri"].rsplit("/", 1)[-1]
        caption = f"row {row['source_row']}"
        detail = f"{shard_name} row {row['source_row']}" + (f", id {row['source_id']}" if row["source_id"] else "")
        try:
            record = self._records.get(row["source_uri"])
            if record is None:
                raise InputError("the manifest does not list this shard")
            shard, layout = self._shards.open(record.path)
            if shard.digest != record.digest or row["source_row"] >= shard.rows:
                raise InputError("the shard has changed since the run")
            ((_, rows),) = read_windows(shard, layout, row["source_row"], 1, 1, OWN_FOLDER, self._cursors)
            seen = thumbnail(rows[0].data or b"", bit_depth=self._manifest.recipe["input"].get("bit_depth"))
            return Tile(seen, caption, detail, None, source=True)
        except PalimpsestError as error:
            return Tile(None, caption, f"{detail}: {error}", None, source=True)
