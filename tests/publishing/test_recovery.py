"""Units whose files are there and that no record names are taken up, and nothing else is."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.plan import Plan
from pipeline.publishing.prepare import prepare
from pipeline.shards.output.store import open_store
from pipeline.shards.output.unit_files import RECORD_KEY
from tests.fixtures.commit_logs import forget, records_in, update
from tests.fixtures.data_sets import FLIP, contents, findings, plan_of, publish, run_here, write_input, write_recipe
from tests.fixtures.gated import GATED
from tests.fixtures.shard_files import photos, write_shard


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan of three units, of which the last also has refused images and a quarantined row."""
    write_input(tmp_path / "data", shards=1, rows=20)
    write_shard(tmp_path / "data/z.parquet", [*photos(6), b"junk"], labels=[0] * 7, ids=list("abcdefg"))
    plan = plan_of(write_recipe(tmp_path, quality={**GATED, "max_quarantined_share": 1}))
    run_here(plan)
    return plan


def test_a_unit_without_a_record_is_taken_up_as_it_is(plan: Plan) -> None:
    out = Path(plan.output)
    before, made, times = (
        records_in(out),
        contents(out),
        {path: path.stat().st_mtime_ns for path in out.glob("*/*.pa*")},
    )
    last = [*before.values()][-1]
    assert {*last.files} == {"data", "rejected", "quarantine"}
    for unit in before:
        forget(out, unit, files=False)
    assert records_in(out) == {}
    manifest, outcomes = run_here(plan)
    assert manifest.complete and outcomes == [] and contents(out) == made
    assert all(path.stat().st_mtime_ns == time for path, time in times.items() if path.parent.name != "_commits")
    again = records_in(out)
    unknown = {"seconds": 0.0, "busy_s": 0.0, "device": "", "run": 2}  # what no footer says
    assert again == {unit: record.model_copy(update=unknown) for unit, record in before.items()}
    assert findings(out) == []


@pytest.mark.parametrize("devices", [{"a GPU"}, {"a GPU", "another GPU"}], ids=["one", "two"])
def test_a_unit_that_is_taken_up_has_the_device_of_its_branch_in_that_run(plan: Plan, devices: set[str]) -> None:
    out = Path(plan.output)
    for unit, device in zip([*records_in(out)][:2], sorted(devices) * 2, strict=False):
        update(out, unit, device=device)
    last = [*records_in(out)][-1]
    forget(out, last, files=False)
    run_here(plan)
    record = records_in(out)[last]
    assert (record.device, record.seconds) == ("a GPU" if len(devices) == 1 else "", 0.0)


@pytest.mark.parametrize("harm", ["a file is missing", "another plan", "no record", "other bytes"])
def test_what_is_not_whole_or_not_of_this_plan_is_made_again(plan: Plan, harm: str) -> None:
    out = Path(plan.output)
    made, (unit, record) = contents(out), [*records_in(out).items()][-1]
    forget(out, unit, files=False)
    data = out / record.files["data"].path
    if harm == "a file is missing":
        (out / record.files["quarantine"].path).unlink()
    elif harm == "other bytes":
        data.write_bytes(data.read_bytes()[:-1] + b"?")
    else:
        table, footer = pq.read_table(data), pq.read_metadata(data).metadata[RECORD_KEY].decode()
        data.unlink()
        changed = footer.replace(record.digest, "0" * 64) if harm == "another plan" else None
        with pq.ParquetWriter(data, table.schema) as writer:
            writer.write_table(table)
            if changed is not None:
                writer.add_key_value_metadata({RECORD_KEY: changed})
    _, outcomes = run_here(plan)
    assert [outcome.unit for outcome in outcomes] == [unit]
    assert contents(out) == made
    assert findings(out) == []


def test_another_attempt_with_other_bytes_leaves_nothing_behind(plan: Plan) -> None:
    out = Path(plan.output)
    made, record = contents(out), next(iter(records_in(out).values()))
    other = out / f"data/{record.unit}-0123456789abcdef.parquet"
    other.write_bytes((out / record.files["data"].path).read_bytes())
    manifest, outcomes = run_here(plan)
    assert manifest.complete and outcomes == [] and contents(out) == made


def test_runs_are_numbered(plan: Plan, tmp_path: Path) -> None:
    assert prepare(plan, open_store(plan.output)).run == 2
    assert prepare(plan, open_store(plan.output)).run == 3
    fresh = plan_of(write_recipe(tmp_path, [FLIP]), output__uri=str(tmp_path / "fresh"))
    assert prepare(fresh, open_store(fresh.output)).run == 1


def test_a_damaged_unit_that_another_attempt_has_made_is_taken_up(plan: Plan) -> None:
    """Its record names a file that is gone, and beside it lies what another attempt made of it."""
    out = Path(plan.output)
    made, record = contents(out), next(iter(records_in(out).values()))
    gone = record.files["data"].model_copy(update={"path": f"data/{record.unit}-{'0' * 16}.parquet"})
    update(out, record.unit, files={**record.files, "data": gone})
    manifest, outcomes = run_here(plan)
    assert manifest.complete and outcomes == [] and contents(out) == made
    assert records_in(out)[record.unit].files == record.files
    assert findings(out) == []


def test_at_publishing_as_well(plan: Plan) -> None:
    out = Path(plan.output)
    made, record = contents(out), next(iter(records_in(out).values()))
    gone = record.files["data"].model_copy(update={"path": f"data/{record.unit}-{'0' * 16}.parquet"})
    update(out, record.unit, files={**record.files, "data": gone})
    assert publish(plan, open_store(plan.output), prepare(plan, open_store(plan.output))).complete
    assert records_in(out)[record.unit].files == record.files and contents(out) == made
