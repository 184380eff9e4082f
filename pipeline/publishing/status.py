"""The status of a data set: what is done, what failed, and who is at work there. Reads only; also during a run."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.execution.row_failures import FOLDER
from pipeline.publishing.lease import Holder, current_holder, is_alive, last_progress
from pipeline.publishing.manifest import read_manifest
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.counts import COUNT_COLUMNS, CountSums, add_counts, total
from pipeline.shards.output.store import Store
from schemas.manifest import Counts, Failure, Manifest

MAX_FAILURES = 100
"""Failed units that are read and named; the others are counted."""


@dataclass(frozen=True)
class BranchStatus:
    """One branch: units that the plan has (None: the manifest is of an earlier version), and counts of those done."""

    planned: int | None
    counts: Counts


@dataclass(frozen=True)
class Driver:
    """The process that writes the data set: its host, process id and start, and its speed over the last minutes.

    `images_per_s` is measured over the last `over_s` seconds, 300 at most; both are 0 before the first heartbeat.
    """

    host: str
    pid: int
    since: str
    images_per_s: float
    units_per_min: float
    over_s: float


@dataclass(frozen=True)
class DatasetStatus:
    """What is known of a data set.

    `state` is `complete`, `running` (a driver holds the output and is alive), or `stopped`: neither; the same command
    goes on. `failures` are units that failed and were not made since, `failed` in number.
    """

    output: str
    state: Literal["complete", "running", "stopped"]
    plan_digest: str
    planned: int
    done: int
    failed: int
    branches: Mapping[str, BranchStatus]
    counts: Counts
    failures: tuple[Failure, ...]
    driver: Driver | None

    @property
    def ok(self) -> bool:
        """Whether nobody needs to do anything: complete, or running."""
        return self.state != "stopped"

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "output": self.output,
            "state": self.state,
            "plan_digest": self.plan_digest,
            "units": {"planned": self.planned, "done": self.done, "failed": self.failed},
            "counts": self.counts.model_dump(mode="json"),
            "branches": {
                name: {"planned": branch.planned, **branch.counts.model_dump(mode="json")}
                for name, branch in self.branches.items()
            },
            "failures": [failure.model_dump(mode="json") for failure in self.failures],
            "driver": None if self.driver is None else asdict(self.driver),
        }


def dataset_status(store: Store) -> DatasetStatus:
    """Return the status of a data set; waits up to 20 s where a driver on another machine must show that it is alive.

    Raises:
        InputError: there is no data set, or its records cannot be read.
    """
    read_manifest(store)  # where there is none, nobody is waited for
    holder = current_holder(store)
    driver = _driver(store, holder) if holder is not None and is_alive(store, holder) else None
    manifest = read_manifest(store)  # after the wait, as a run may have ended in it
    failed, failures = _failures(store)
    sums = _sums(CommitLog(store), failed)
    counts = total(sums.values())
    complete = manifest.complete and driver is None and counts.units == manifest.units
    return DatasetStatus(
        output=store.uri,
        state="complete" if complete else "running" if driver is not None else "stopped",
        plan_digest=manifest.plan_digest,
        planned=manifest.units,
        done=counts.units,
        failed=len(failed),
        branches=_branches(manifest, sums),
        counts=counts,
        failures=tuple(failure for failure in failures if failure.unit in failed),
        driver=driver,
    )


def _sums(log: CommitLog, failed: set[str]) -> dict[str, CountSums]:
    """Return the sums of each branch; units that are there are removed from `failed`."""
    sums: dict[str, CountSums] = {}
    for table in log.scan(("unit", *COUNT_COLUMNS)):
        add_counts(sums, table)
        if failed:
            there = pc.is_in(table["unit"], value_set=pa.array(failed, table.schema.field("unit").type))
            failed.difference_update(table["unit"].filter(there).to_pylist())
    return sums


def _driver(store: Store, holder: Holder) -> Driver:
    progress = last_progress(store, holder)
    speed = [_number(progress.get(name)) for name in ("images_per_s", "units_per_min", "over_s")]
    return Driver(holder.owner.host, holder.owner.pid, holder.since, *speed)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _branches(manifest: Manifest, sums: Mapping[str, CountSums]) -> dict[str, BranchStatus]:
    names = [str(chain["name"]) for chain in manifest.chains]
    names += [name for name in sums if name not in names]
    return {name: BranchStatus(manifest.planned.get(name), sums.get(name, CountSums()).counts()) for name in names}


def _failures(store: Store) -> tuple[set[str], list[Failure]]:
    """Return the names of units that failed, and the records of the first of them."""
    units: set[str] = set()
    found: list[Failure] = []
    for path in store.list("_failed"):
        if path.startswith(f"{FOLDER}/"):
            continue
        units.add(path.removeprefix("_failed/").removesuffix(".json"))
        if len(found) < MAX_FAILURES:
            with suppress(FileNotFoundError, ValueError):  # made since, or no record of ours
                found.append(Failure.model_validate_json(store.read(path)))
    return units, found
