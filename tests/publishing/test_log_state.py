"""What the log holds of a plan: done, damaged, of another plan, and what no record names."""

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.plan import Plan
from pipeline.publishing.log_state import LogState, read_state
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.counts import WrittenFiles, count
from pipeline.shards.output.data_files import DataFiles
from pipeline.shards.output.record_columns import record_hash
from pipeline.shards.output.store import open_store
from schemas.manifest import UnitRecord
from tests.fixtures.commit_logs import put, records_in, update
from tests.fixtures.data_sets import FLIP, plan_of, run_here, write_input, write_recipe


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Six units: three of each branch."""
    write_input(tmp_path / "data", shards=1, rows=30)
    plan = plan_of(write_recipe(tmp_path, [FLIP, {**FLIP, "name": "once", "copies": 1}]))
    run_here(plan)
    return plan


def state_of(plan: Plan) -> LogState:
    store = open_store(plan.output)
    return read_state(plan, CommitLog(store), DataFiles(store))


def test_everything_is_there(plan: Plan) -> None:
    state, records = state_of(plan), [*records_in(Path(plan.output)).values()]
    assert state.done.tolist() == [True] * 6
    assert (state.damaged, state.others, state.leftovers) == ({}, {}, {})
    by_name = {record.unit: record for record in records}
    assert [bytes(each) for each in state.hashes] == [record_hash(by_name[name]) for name in plan.units.names()]
    for branch in ("flipped", "once"):
        own = [record for record in records if record.branch == branch]
        assert state.sums[branch].counts() == count(own)
        files = [file for record in own for file in record.files.values()]
        rows, size = sum(file.rows for file in files), sum(file.bytes for file in files)
        assert state.written[branch] == WrittenFiles(rows, size, len(files)) and len(files) == 3
    assert state.devices == {record.device for record in records}


def test_each_unit_is_put_where_it_belongs(plan: Plan) -> None:
    out, units = Path(plan.output), [*plan.units]
    records = records_in(out)
    update(out, units[1].name, digest="0" * 64)
    update(out, units[2].name, branch="unknown", shard=None, label="x")
    (out / records[units[4].name].files["data"].path).unlink()
    with (out / records[units[5].name].files["data"].path).open("ab") as file:
        file.write(b"more")
    (out / "data/nobody's.parquet").write_bytes(b"12")
    state = state_of(plan)
    assert state.done.tolist() == [True, False, False, True, False, False]
    assert [bool(each.any()) for each in state.hashes] == state.done.tolist()
    missing, longer = (records[units[n].name].files["data"] for n in (4, 5))
    assert state.damaged == {
        units[4].name: f"{missing.path} is missing",
        units[5].name: f"{longer.path} has {longer.bytes + 4} bytes, and {longer.bytes} were committed",
    }
    assert {key: (each.planned, each.names, each.images) for key, each in state.others.items()} == {
        ("flipped", "train-00000.parquet", ""): (True, [units[1].name], 20),
        ("unknown", None, "x"): (False, [units[2].name], 20),
    }
    assert state.others["unknown", None, "x"].files == [records[units[2].name].files["data"].path]
    assert state.leftovers == {"data/nobody's.parquet": 2}
    assert state.sums["flipped"].units == 1


def test_a_record_under_another_name_is_of_another_plan(plan: Plan) -> None:
    first = next(iter(plan.units))
    update(Path(plan.output), first.name, first=10)
    state = state_of(plan)
    assert not state.done[0] and next(iter(state.others.values())).names == [first.name]


def test_a_record_of_values_that_no_run_writes_is_refused(plan: Plan) -> None:
    record = next(iter(records_in(Path(plan.output)).values()))
    put(Path(plan.output), [UnitRecord.model_construct(**{**dict(record), "unit": "u", "first": -1})])
    with pytest.raises(InputError, match="the record of unit 'u' cannot be read"):
        state_of(plan)
