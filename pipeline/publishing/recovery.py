"""Units whose files are there and that the commit log does not name, since a process died in between: taken up."""

from dataclasses import dataclass

from pipeline.errors import ConflictError
from pipeline.plan import Plan
from pipeline.publishing.log_state import LogState
from pipeline.shards.output.commit_log import Announce, Segment, publish_segment, tell_nobody
from pipeline.shards.output.data_files import recovered_record
from pipeline.shards.output.segments import segment_table
from pipeline.shards.output.store import Store
from pipeline.shards.output.unit_files import unit_of
from schemas.manifest import UnitRecord

RECORDS_AT_ONCE = 256


@dataclass(frozen=True)
class Recovery:
    """What came of the leftovers.

    Attributes:
        units: how many units were taken up.
        segments: those that name them now.
        replaced: whether the log held other records of some of them.
    """

    units: int
    segments: list[Segment]
    replaced: bool


def check_leftovers(plan: Plan, state: LogState) -> None:
    """Raise ConflictError where a data file is of no unit of the plan."""
    planned = _planned(plan, state)
    unknown = [path for path in state.leftovers if unit_of(path) not in planned]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise ConflictError(f"{min(unknown)}{more}: no record names this file; move it away and run again")


def recover_units(
    plan: Plan, store: Store, state: LogState, run: int, made_in: int, announce: Announce = tell_nobody
) -> Recovery:
    """Put units into the log whose files are there, complete and as planned; `state` then holds them.

    Equal attempts have equal files, so no file says on which device it was made, nor in how many seconds. A record gets
    the device on which all other units of its branch were made in that run; where it was two, or none, it stays empty.

    Args:
        run: number of this run.
        made_in: number of the run that made them.
        announce: called with the path of each segment before it is written.
    """
    planned, found, segments, units = _planned(plan, state), dict[int, UnitRecord](), list[Segment](), 0
    damaged = len(state.damaged)
    for path in sorted(state.leftovers):
        index = planned.get(unit_of(path))
        if index is None or state.done[index] or index in found:
            continue
        record = recovered_record(store, path, state.files)
        if record is None or record.digest != plan.units[index].digest:
            continue
        found[index] = record.model_copy(update={"run": run, "device": state.device_of(record.branch, made_in)})
        units += 1
        if len(found) == RECORDS_AT_ONCE:
            segments += _taken_up(plan, store, state, [*found.values()], announce)
            found = {}
    segments += _taken_up(plan, store, state, [*found.values()], announce)
    return Recovery(units, segments, replaced=len(state.damaged) < damaged)


def _taken_up(
    plan: Plan, store: Store, state: LogState, records: list[UnitRecord], announce: Announce
) -> list[Segment]:
    """Put records into the log, and into `state`; return the segments."""
    if not records:
        return []
    table = segment_table(records)
    state.add(plan, table)
    for record in records:
        state.damaged.pop(record.unit, None)
        for file in record.files.values():
            state.leftovers.pop(file.path, None)
    segment = publish_segment(store, [table], announce)
    return [] if segment is None else [segment]


def _planned(plan: Plan, state: LogState) -> dict[str, int]:
    """Return the indexes of the planned units that leftovers say they are of, by name."""
    wanted = {unit_of(path) for path in state.leftovers}
    if not wanted:
        return {}
    return {name: index for index, name in enumerate(plan.units.names()) if name in wanted}
