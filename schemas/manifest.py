"""The records of finished work: one for each unit, which the commit log holds, and the manifest of the data set."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from schemas.recipe import MAX_ROWS_PER_UNIT


class Record(BaseModel):
    """Base of the records on disk."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    renamed: ClassVar[Mapping[str, str]] = {}
    """Fields by the names they had before, for the error that names the new one."""


class FileRecord(Record):
    """One Parquet file: path relative to the data set, rows, bytes and sha256."""

    path: str = Field(pattern=r"^(data|rejected|quarantine)/[^/\x00]+$")
    rows: int
    bytes: int
    sha256: str


class UnitRecord(Record):
    """The record of a finished unit in the commit log: the unit is done, and these are its files."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    unit: str
    digest: str
    branch: str
    shard: str | None  # path of the source shard relative to its root
    first: int = Field(ge=0)
    rows: int = Field(ge=0, le=MAX_ROWS_PER_UNIT)
    label: int | str | None = None  # the class of a unit without sources
    selected: int  # source rows that `where` let through, or images asked for
    copies: int  # images a selected row; 1 without sources
    accepted: int
    rejected: int  # for good: of an image that was made again, only the last attempt
    quarantined: int  # source rows
    retried: int = 0  # attempts a gate refused and another followed; their images are in rejected/, too
    reasons: dict[str, int] = {}  # why images were rejected for good
    quarantine_reasons: dict[str, int] = {}  # error codes of the quarantined rows
    files: dict[str, FileRecord]  # by folder: data, rejected, quarantine
    exact: bool = True  # False: memory back-off changed a micro-batch
    seconds: float = 0.0  # 0 where unknown: the record was read from the unit's own file
    busy_s: float = 0.0  # of them inside operators
    device: str = ""  # model of the device that made it; empty where unknown
    run: int = 0  # number of the run that put it into the log
    sample_ids: bytes = Field(default=b"", repr=False)  # 16 bytes a row of data/, then of rejected/
    payloads: bytes = Field(default=b"", repr=False)  # 8 bytes a row: the first of the recorded payload's digest


class Failure(Record):
    """A unit that failed for good, in `_failed/<unit>.json`."""

    unit: str
    branch: str
    rows: int  # of the unit
    digest: str
    attempts: int
    error: str  # one line
    traceback: str = ""  # of the last attempt; empty where its worker died


class RowFailure(Record):
    """The first quarantined row of its kind, in `_failed/rows/<branch>-<code>[-<part>].json`."""

    branch: str
    code: str
    part: str | None  # operator or gate that failed
    unit: str
    source_uri: str
    source_row: int
    error: str  # one line
    traceback: str


class ModelRecord(Record):
    """A model file: the reference in the recipe, and its sha256."""

    reference: str
    sha256: str


class ShardRecord(Record):
    """An input shard: where it was, its path relative to its root, rows, bytes, and the digest of its footer.

    `columns` are the digests of its columns beside the images. `file_version` (earlier versions wrote `stamp`) is the
    state of the file that they were read from: size, times and inode, or an ETag. Both may be empty.
    """

    uri: str
    path: str
    rows: int
    bytes: int
    digest: str
    columns: dict[str, str] = {}
    file_version: str = Field(default="", validation_alias=AliasChoices("file_version", "stamp"))


class PrunedShard(Record):
    """What `run --prune` removed: the units and accepted images of a shard that changed, or left the input."""

    shard: str
    digest: str  # of its footer then
    reason: Literal["gone", "changed"]
    units: int
    images: int


class InputRecord(Record):
    """The columns of the input that the run used; `columns` is the Arrow schema, as IPC in base64."""

    columns: str
    image: str
    image_kind: str
    label: str | None
    id: str | None


class SegmentRecord(Record):
    """A segment of the commit log: its path, which holds its sha256, the units it names, and its bytes."""

    path: str
    units: int
    bytes: int


class CommitsRecord(Record):
    """The commit log as it was published: a sha256 over the digest and the files of every unit, and its segments."""

    sha256: str
    segments: list[SegmentRecord]


class Counts(Record):
    """Sums over the records of all units, of the whole data set or of one branch."""

    renamed: ClassVar[Mapping[str, str]] = {"remade": "retried"}

    units: int = 0
    selected: int = 0
    asked: int = 0  # images: selected x copies
    accepted: int = 0
    rejected: int = 0
    quarantined: int = 0
    retried: int = 0
    reasons: dict[str, int] = {}  # of rejected images
    quarantine_reasons: dict[str, int] = {}


class Manifest(Record):
    """`manifest.json`: the recipe, the inputs and models, and the counts of a data set."""

    renamed: ClassVar[Mapping[str, str]] = {"markers": "commits"}

    palimpsest: str
    complete: bool
    plan_digest: str
    recipe: dict[str, Any]
    recipe_base: str  # what a relative path in the recipe is relative to
    limit: int | None
    chains: list[dict[str, Any]]  # every branch, resolved: operators, versions, parameters, files by sha256
    classes: list[str]
    shards: list[ShardRecord]
    input: InputRecord | None = None
    models: list[ModelRecord]
    artifacts: dict[str, str]  # sha256 -> where it came from
    units: int
    planned: dict[str, int] = {}  # of these by branch; empty in the manifests of earlier versions
    failed: list[str]
    counts: Counts
    branches: dict[str, Counts]
    run: int  # number of the last run that wrote here, from 1
    commits: CommitsRecord
    watermark: dict[str, Any] | None
    versions: dict[str, str]
    devices: list[str] = []  # models of the devices that made it
    pruned: list[PrunedShard] = []
