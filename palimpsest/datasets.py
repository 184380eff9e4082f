"""Functions over a data set: verify it, trace an image, replay one, write the report page, and say how far it is.

Each function imports its own code: `verify` of a data set without marks needs no torch.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.contracts import Pixels
from pipeline.errors import RecipeError
from pipeline.planning.recipe_file import absolute
from pipeline.shards.output.store import Store, open_store
from pipeline.watermark_key import chosen_key
from pipeline.working_dir import refuse_packed_keys, require_persistent

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipeline.audit.replay import ReplayResult
    from pipeline.audit.trace import TraceResult
    from pipeline.audit.verification import Verification
    from pipeline.publishing.status import DatasetStatus

StrPath = str | os.PathLike[str]


def verify(
    dataset: StrPath,
    key: bytes | None = None,
    *,
    sample: float = 1.0,
    seed: int | None = None,
    executor: Literal["inline", "ray"] = "inline",
    address: str = "local",
) -> "Verification":
    """Recompute every checksum, count, lineage link, watermark and the seal of a data set; changes nothing.

    Args:
        dataset: path or URI of a run's output.
        key: the watermark key (`read_key`); without it that of the variable PALIMPSEST_KEY, if set. Without any, marks
            and the seal are not checked, and `notes` say so.
        sample: share of the units whose files are read, in (0, 1]. Of the others, records, names and sizes are checked.
        seed: of that draw; by chance where it is None, and then `notes` say which one it was.
        executor: `inline`: one process; `ray`: on Ray, with the same result.
        address: of the Ray cluster: `local`, `auto` or HOST.

    Returns:
        What was checked; `ok` is True where nothing is in `findings`, which holds the first 1,000.

    Raises:
        InputError: there is no data set, it was marked with another key, or `sample` is no such share.
        JobError: there is no cluster, or one of its nodes does not see the data set.
    """
    from pipeline.audit.verify import Scope, verify_dataset

    store, own, scope = _open(dataset), _key(key), Scope(sample, seed)
    if executor == "inline":
        return verify_dataset(store, own, scope)
    from pipeline.cluster.check_pool import verify_on_ray

    return verify_on_ray(store, own, scope, address)


def trace(image: "StrPath | bytes | Image | Pixels", dataset: StrPath, key: bytes | None = None) -> "TraceResult":
    """Return the row that an image came from, by the mark it carries.

    Args:
        image: a file, its bytes, a Pillow image, or pixels [H, W] or [H, W, C], C 1 or 3, uint8.
        dataset: path or URI of a run's output.
        key: the watermark key it was made with; without it that of the variable PALIMPSEST_KEY.

    Returns:
        The row as a dict in `row`, None where there is no mark, or none of this data set; `rows` are all of them where
        several rows share a name of 48 bits; `score` is the evidence.

    Raises:
        RecipeError: there is no key.
        InputError: the image cannot be read; there is no data set, or it was made without marks.
    """
    from pipeline.audit.trace import read_image, trace_image

    found = _key(key)
    if found is None:
        raise RecipeError("trace needs the watermark key: --key-file FILE, PALIMPSEST_KEY or, from Python, `key=`")
    return trace_image(read_image(image), _open(dataset), found)


def replay(dataset: StrPath, sample_id: str, key: bytes | None = None, allowed: Sequence[str] = ()) -> "ReplayResult":
    """Make one stored image again, from its lineage alone, and compare.

    Args:
        dataset: path or URI of a run's output; its source shards must still be where they were.
        sample_id: of a row in `data/` or `rejected/`, 32 hex digits.
        key: the watermark key it was made with; without it that of the variable PALIMPSEST_KEY, if set.
        allowed: `module:Class` of operators and gates of yours that replay may import though they are not installed.

    Returns:
        Both rows; `equal` where their images and lineage are the same, byte for byte.

    Raises:
        InputError: no such sample, or its source is gone or changed.
        JobError: it was marked, and this is not the key.
    """
    from pipeline.audit.replay import replay_sample

    return replay_sample(_open(dataset), sample_id, _key(key), allowed)


def report(dataset: StrPath, key: bytes | None = None) -> str:
    """Write the page of a data set anew, `report/index.html` in it, and return its path or URI.

    Args:
        dataset: path or URI of a run's output.
        key: the watermark key; without it that of the variable PALIMPSEST_KEY, if set. A sealed data set needs it:
            else `verify` finds the page changed.

    Raises:
        InputError: there is no data set.
        JobError: it lies in Ray's copy of a submitted folder.
        StorageError: the page cannot be written.
    """
    from pipeline.audit.report import REPORT, renew_report

    require_persistent(os.fspath(dataset), "dataset", "as dataset")
    store = _open(dataset)
    renew_report(store, _key(key))
    return f"{store.uri}/{REPORT}"


def status(dataset: StrPath) -> "DatasetStatus":
    """Return how far a data set is, what failed and who is at work there; reads only, and needs no key.

    Works also while a run goes on, from another machine, on every kind of store. A driver on another machine is watched
    until it shows that it is alive: about 5 s, and 20 s where it is dead.

    Args:
        dataset: path or URI of a run's output.

    Returns:
        Units planned, done and failed, counts by branch, reasons, the driver and its speed; `state` is `complete`,
        `running` or `stopped`.

    Raises:
        InputError: there is no data set, or its records cannot be read.
    """
    from pipeline.publishing.status import dataset_status

    return dataset_status(_open(dataset))


def _open(dataset: StrPath) -> Store:
    return open_store(absolute(os.fspath(dataset), str(Path.cwd())))


def _key(key: bytes | None) -> bytes | None:
    refuse_packed_keys()
    return chosen_key(key)
