"""`replay`: make one stored image again from its lineage, and compare."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.audit.row_search import RowSearch
from pipeline.audit.source_shards import reopen
from pipeline.devices import device_for_model, device_model
from pipeline.errors import InputError
from pipeline.execution.background import BackgroundThreads
from pipeline.execution.job import Job, LoadedBranch
from pipeline.execution.micro_batches import ComputeReport
from pipeline.execution.runner import make_window
from pipeline.execution.window import Window, new_sample, windows
from pipeline.messages import short_repr
from pipeline.plan import BranchPlan, Unit
from pipeline.planning.branches import resources_of
from pipeline.publishing.manifest import branch_from, read_manifest
from pipeline.registry import GATE, OPERATOR, approved
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from pipeline.shards.images.codecs import decode
from pipeline.shards.links.linked_images import ImageLinks
from pipeline.shards.output.store import Store
from pipeline.watermark.payload import from_text, is_clear, keyed_digest
from schemas.images import IMAGE
from schemas.manifest import Manifest, UnitRecord
from schemas.recipe import Recipe

PROVENANCE = (
    "sample_id", "attempt", "source_sha256", "steps", "partners", "label", "watermarks", "quality", "rejected_reason",
)  # fmt: skip


@dataclass(frozen=True)
class ReplayResult:
    """The stored row, the row that was made again, and the difference of their images."""

    stored: dict[str, Any]
    replayed: dict[str, Any]
    grey_levels: int  # largest difference of one pixel in one channel; 0 where equal
    differs: list[str]  # lineage columns that are not the same
    stored_device: str = ""  # model of the device; empty in data sets of earlier versions
    replayed_device: str = ""

    @property
    def equal(self) -> bool:
        same_bytes: bool = self.stored["image"]["bytes"] == self.replayed["image"]["bytes"]
        return same_bytes and not self.differs

    @property
    def other_device(self) -> bool:
        """Whether the two images were made on different models of a device, so that last bits may differ."""
        return bool(self.stored_device) and self.stored_device != self.replayed_device


def replay_sample(store: Store, sample: str, key: bytes | None = None, allowed: Sequence[str] = ()) -> ReplayResult:
    """Make the image with this `sample_id` again.

    The whole window it was in is made again, the attempts before it as well: a network's last bit may depend on the
    batch, and what a gate refused decides which images the next attempt's batches hold. On a GPU where it was made on
    one and there is one here, else on the CPU; where its record names no device, as the recipe asks.

    Args:
        allowed: `module:Class` of operators and gates that the user trusts, beside those that are installed.

    Raises:
        InputError: no such sample, or its source is gone or changed.
        JobError: it was marked, and this is not the key; or it was made by code that is not here, or not trusted.
    """
    manifest = read_manifest(store)
    found = next(RowSearch(store).by_sample(sample), None)
    if found is None:
        raise InputError(f"sample {sample!r}: no image in {store.uri} has this id")
    record, stored = found.record, found.row
    recipe = Recipe.model_validate(manifest.recipe)
    shard, layout = _source(manifest, record, found.label)
    chain = next((chain for chain in manifest.chains if chain["name"] == record.branch), None)
    if chain is None:
        raise InputError(f"sample {sample}: the manifest has no branch {short_repr(record.branch)}")
    key_id = (manifest.watermark or {}).get("key_id")
    links = ImageLinks.of(recipe.input, manifest.recipe_base, public_only=True)
    job = Job(recipe, store.uri, layout, tuple(manifest.classes), key_id, links)
    planned = _approved(branch_from(chain), allowed)
    device = device_for_model(record.device) if record.device else device_asked_for(recipe, planned)
    branch = LoadedBranch.load(job, planned, device, key)
    unit = Unit(record.unit, record.digest, record.branch, record.first, record.rows, shard, record.label)
    with BackgroundThreads(1, device) as background:
        for window in windows(branch, unit, background):
            if not _holds(branch, unit, window, stored):
                continue
            for table in make_window(branch, unit, window, ComputeReport(), background).values():
                for row in table.to_pylist():
                    if row.get("sample_id") == sample:
                        recorded = {**stored, "watermarks": _current_marks(stored["watermarks"], key)}
                        differs = [name for name in PROVENANCE if repr(row.get(name)) != repr(recorded.get(name))]
                        models = (record.device, device_model(device))
                        return ReplayResult(stored, row, _max_difference(stored, row), differs, *models)
            raise InputError(
                f"sample {sample}: attempt {stored['attempt']} at this image is not made here: its source row can no "
                "longer be used, or a gate decides otherwise on this device"
            )
    raise InputError(f"sample {sample}: its source row can no longer be used")


def device_asked_for(recipe: Recipe, branch: BranchPlan) -> str:
    """Return the local device for a branch of which no record says what made it: `cuda` where the recipe asks for one.

    Raises:
        JobError: an operator's code is not here.
    """
    if not branch.steps:
        return "cpu"
    gpus = resources_of(recipe, branch.name, branch.steps, [step.make() for step in branch.steps])["gpus"]
    return device_for_model("a GPU" if gpus > 0 else "cpu")


def _approved(branch: BranchPlan, allowed: Sequence[str]) -> BranchPlan:
    """Return a branch whose packages may be imported. Raises JobError where one may not."""
    steps = [
        step if step.package is None else replace(step, package=approved(OPERATOR, step.package, allowed))
        for step in branch.steps
    ]
    gates = [
        gate if gate.package is None else replace(gate, package=approved(GATE, gate.package, allowed))
        for gate in branch.gates
    ]
    return replace(branch, steps=tuple(steps), gates=tuple(gates))


def _current_marks(marks: list[dict[str, Any]], key: bytes | None) -> list[dict[str, Any]]:
    """Return recorded marks as this version writes them, with the keyed digest of payloads in clear."""
    if key is None:
        return marks
    clear = [is_clear(str(mark["payload"])) for mark in marks]
    return [
        {**mark, "payload": keyed_digest(key, from_text(mark["payload"]))} if early else mark
        for mark, early in zip(marks, clear, strict=True)
    ]


def _holds(branch: LoadedBranch, unit: Unit, window: Window, stored: dict[str, Any]) -> bool:
    """Whether a window holds the image of a stored row, which may be a later attempt at it."""
    places = ((each.source, each.copy) for each in window.samples)
    replayed = (new_sample(branch.job, unit, window, *place, None, stored["attempt"]) for place in places)
    return any(each.sample_id == stored["sample_id"] for each in replayed)


def _source(manifest: Manifest, record: UnitRecord, kind: pa.DataType) -> tuple[Shard | None, Layout]:
    """Return the source shard and its layout; without one, what the label is stored as. Class names as planned."""
    if record.shard is None:
        schema = pa.schema([pa.field("image", IMAGE), pa.field("label", kind)])
        found = Layout("image", "struct", "label", None, None, schema, ())
        return None, found.named(manifest.classes, found.class_source)
    shard_record = next((each for each in manifest.shards if each.path == record.shard), None)
    if shard_record is None:
        raise InputError(f"unit {record.unit}: the manifest does not list its shard {short_repr(record.shard)}")
    shard, layout = reopen(manifest, shard_record)
    if record.first + record.rows > shard.rows:
        raise InputError(f"unit {record.unit}: its record names rows that {shard_record.uri} has not")
    if shard.digest != shard_record.digest:
        raise InputError(f"{shard_record.uri}: the source shard has changed since the run")
    return shard, layout.named(manifest.classes, layout.class_source)


def _max_difference(stored: dict[str, Any], replayed: dict[str, Any]) -> int:
    first, second = (decode(row["image"]["bytes"], 2**31) for row in (stored, replayed))
    if first.shape != second.shape:
        return 255
    return int(np.abs(first.astype(np.int16) - second.astype(np.int16)).max(initial=0))
