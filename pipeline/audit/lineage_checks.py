"""Lineage checks: each row's lineage columns against its unit, its branch and the manifest, without source files."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipeline.lineage.records import input_features
from pipeline.plan import ORIGINAL, BranchPlan, StepPlan
from pipeline.seeding import step_seed
from schemas.images import IMAGE, LINEAGE, QUARANTINE
from schemas.manifest import Manifest, UnitRecord

_MADE = (pa.field("image", IMAGE), *LINEAGE)
_COLUMNS = {"data": _MADE, "rejected": (*_MADE, pa.field("rejected_reason", pa.string())), "quarantine": QUARANTINE}


def columns_read(folder: str, names: list[str]) -> list[str]:
    """Return the columns of a file that are checked."""
    label = ["label"] if folder != "quarantine" and "label" in names else []
    return [field.name for field in _COLUMNS[folder]] + label


def schema_findings(path: str, folder: str, schema: pa.Schema) -> Iterator[str]:
    """Yield findings about a file's columns; its rows can be checked only where there are none."""
    known = {field.name: field.type for field in schema}
    wanted = {field.name: field.type for field in _COLUMNS[folder]}
    absent = [name for name in wanted if name not in known]
    if folder != "quarantine" and "label" not in known:
        absent.append("label")
    if absent:
        yield f"{path}: column {', '.join(absent)} is missing"
    if len(known) != len(schema.names):
        yield f"{path}: two columns have one name"
    for name, kind in wanted.items():
        if name in known and known[name] != kind:
            yield f"{path}: column {name} is {known[name]}, and must be {kind}"


def class_findings(path: str, schema: pa.Schema, manifest: Manifest) -> Iterator[str]:
    """Yield a finding where a file's schema names other classes than the manifest."""
    feature = input_features(schema).get("label")
    names = feature.get("names") if isinstance(feature, dict) else None
    if isinstance(names, list) and [str(name) for name in names] != manifest.classes:
        yield f"{path}: its classes are not those of the manifest"


class LineageChecks:
    """Checks rows of `data/` and `rejected/` of one unit, and those of `quarantine/`."""

    def __init__(self, manifest: Manifest, record: UnitRecord, branch: BranchPlan) -> None:
        """Raise RecipeError where the branch has a built-in operator that this version does not know."""
        self._manifest, self._record, self._branch = manifest, record, branch
        self._chain = [
            (
                step.operator,
                step.version,
                "+".join(model.sha256 for model in step.models.values()) or None,
                None if step.package is None else str(step.package),
            )
            for step in branch.steps
        ]
        self.mixes = any(_changes_labels(step) for step in branch.steps)

    def findings(self, row: Mapping[str, Any], folder: str) -> Iterator[str]:
        """Yield findings about a row of `data/` or `rejected/`."""
        prefix, record = f"sample {row['sample_id']}", self._record
        if row["branch"] != record.branch:
            yield f"{prefix}: branch {row['branch']!r} is not its unit's"
        if row["unit_digest"] != record.digest:
            yield f"{prefix}: unit_digest is not its unit's"
        image = hashlib.sha256(row["image"]["bytes"] or b"").hexdigest()
        if image != row["image_sha256"]:
            yield f"{prefix}: the image is not the one its sha256 names"
        if row["digital_source_type"] != self._branch.digital_source_type:
            yield f"{prefix}: digital_source_type is not its branch's"
        if row["soft_label"] is not None and not self.mixes:
            yield f"{prefix}: a soft_label, and no operator of its branch mixes labels"
        if not 0 <= row["copy_index"] < record.copies:
            yield f"{prefix}: copy {row['copy_index']} of {record.copies}"
        if folder == "rejected" and row["rejected_reason"] is None:
            yield f"{prefix}: rejected, and no reason is given"
        yield from self._steps(prefix, row, whole=folder == "data")
        yield from self._partners(prefix, row)
        yield from self._marks(prefix, row, folder)
        yield from self._source(prefix, row)
        if row["branch"] == ORIGINAL and image != row["source_sha256"]:
            yield f"{prefix}: the original is not its source, byte for byte"

    def quarantined(self, row: Mapping[str, Any]) -> Iterator[str]:
        """Yield findings about a row of `quarantine/`."""
        prefix = f"unit {self._record.unit}: quarantined row {row['source_row']}"
        if row["branch"] != self._record.branch:
            yield f"{prefix}: branch {row['branch']!r} is not its unit's"
        if not row["error_code"]:
            yield f"{prefix}: no error code"
        yield from self._source(prefix, row)

    def _steps(self, prefix: str, row: Mapping[str, Any], whole: bool) -> Iterator[str]:
        """Yield findings about a row's steps: all of the chain, or for a rejected image its first ones."""
        keys = ("operator", "version", "model_sha256", "package")
        recorded = [tuple(step[key] for key in keys) for step in row["steps"]]
        chain = self._chain if whole else self._chain[: max(1, len(recorded))]
        if recorded != chain:
            yield f"{prefix}: its steps (operators, versions, models, code) are not those of its branch in the manifest"
        for index, step in enumerate(row["steps"]):
            if step["seed"] != step_seed(row["sample_id"], index):
                yield f"{prefix}: step {index} has another seed"
            if not _is_json(step["params"]):
                yield f"{prefix}: step {index} params are not JSON"

    def _partners(self, prefix: str, row: Mapping[str, Any]) -> Iterator[str]:
        for partner in row["partners"]:
            number = partner["source_row"]
            if partner["sha256"] in self._manifest.artifacts:
                continue
            if number is None or partner["source_uri"] != row["source_uri"]:
                yield f"{prefix}: partner {partner['sha256'][:12]} is not among the artifacts"
            elif not self._holds(number):
                yield f"{prefix}: partner row {number} is outside its unit"

    def _marks(self, prefix: str, row: Mapping[str, Any], folder: str) -> Iterator[str]:
        settings, marks = self._manifest.watermark, row["watermarks"]
        if settings is None or row["branch"] == ORIGINAL:
            if marks:
                yield f"{prefix}: a mark is recorded, and by the manifest it carries none"
            return
        if len(marks) > 1 or (folder == "data" and not marks):
            yield f"{prefix}: {len(marks)} marks recorded"
        for mark in marks:
            if (mark["scheme"], mark["key_id"]) != (settings.get("scheme"), settings["key_id"]):
                yield f"{prefix}: its mark is of another scheme or key than the manifest's"
            if folder == "data" and mark["verified"] is not True:
                yield f"{prefix}: accepted, and its mark was not verified"

    def _source(self, prefix: str, row: Mapping[str, Any]) -> Iterator[str]:
        record = self._record
        if record.shard is None:
            if any(row.get(name) is not None for name in ("source_id", "source_uri", "source_row", "source_sha256")):
                yield f"{prefix}: names a source, and its unit has none"
            if record.label is not None and row.get("label") != record.label:  # without one, the operator may draw it
                yield f"{prefix}: label {row.get('label')!r}, and its unit makes {record.label!r}"
            return
        if row["source_row"] is None or not self._holds(row["source_row"]):
            yield f"{prefix}: source_row {row['source_row']} is outside its unit"
        if not f"/{row['source_uri']}".endswith(f"/{record.shard}"):  # data that moved keep their paths
            yield f"{prefix}: source_uri {row['source_uri']} is not its unit's shard {record.shard}"

    def _holds(self, row: int) -> bool:
        return self._record.first <= row < self._record.first + self._record.rows


def _changes_labels(step: StepPlan) -> bool:
    """Whether a step may change labels: a built-in one by its class, else as the manifest states; none is imported."""
    return step.part_class.changes_labels if step.package is None else step.changes_labels


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
