"""Progress and summary, as text, of a real plan."""

import io
from pathlib import Path

import pytest

from pipeline.audit.report import REPORT, write_report
from pipeline.monitoring.progress import LINE_EVERY_S, Progress, duration, summary
from pipeline.plan import Plan
from pipeline.shards.output.counts import CountSums
from pipeline.shards.output.store import open_store
from schemas.manifest import Failure, UnitRecord
from tests.fixtures.data_sets import FLIP, plan_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    write_input(tmp_path / "data", shards=2, rows=20)
    return plan_of(write_recipe(tmp_path))  # 4 units of 10 rows, 2 copies each


def record(plan: Plan, index: int, busy_s: float = 1.0) -> UnitRecord:
    unit = plan.units[index]
    return UnitRecord(
        unit=unit.name, digest=unit.digest, branch=unit.branch, shard=None, first=0, rows=10, selected=10, copies=2,
        accepted=20, rejected=0, quarantined=0, files={}, seconds=2.0, busy_s=busy_s,
    )  # fmt: skip


def failure(plan: Plan, index: int) -> Failure:
    unit = plan.units[index]
    return Failure(
        unit=unit.name, branch=unit.branch, rows=unit.rows, digest="d", attempts=3, error="out of memory\nmore"
    )


def test_a_log_gets_a_plain_line_every_ten_seconds(plan: Plan) -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(plan, {"flipped": CountSums(units=1, rows=10)}, actors=2, stream=stream, clock=clock) as progress:
        clock.now += 4
        progress.add(record(plan, 1))
        assert stream.getvalue() == ""
        clock.now += LINE_EVERY_S - 4
        progress.add(failure(plan, 2))
        assert stream.getvalue() == "3/4 units, 20 images, 2.0 images/s, busy 5%, 1 failed, 5 s left\n"
        progress.add(record(plan, 3))
    assert stream.getvalue().splitlines()[-1].startswith("4/4 units, 40 images")


def test_a_terminal_gets_one_bar(plan: Plan) -> None:
    clock, stream = Clock(), Terminal()
    with Progress(plan, stream=stream, clock=clock) as progress:
        clock.now += 4
        for index in range(4):
            progress.add(record(plan, index))
    last = stream.getvalue().split("\r")[-1]
    assert "4/4 units, 80 images" in last
    assert "20.0 images/s" in last
    assert "busy 50%" in last  # of the time that units took


def test_nothing_done_prints_nothing(plan: Plan) -> None:
    stream = io.StringIO()
    with Progress(plan, stream=stream, clock=Clock()):
        pass
    assert stream.getvalue() == ""


def test_the_summary_says_what_is_there_and_what_failed(plan: Plan) -> None:
    clock = Clock()
    manifest, outcomes = run_here(plan)
    with Progress(plan, actors=1, stream=io.StringIO(), clock=clock) as progress:
        clock.now += 20
        for outcome in outcomes:
            progress.add(outcome)
    text = summary(manifest, progress, plan.output)
    assert "flipped        80        80         0            0" in text
    assert "80 images in 20 s: 4.0 images/s" in text
    assert text.splitlines()[-1] == f"data set: {plan.output}"
    assert "failed" not in text

    progress.failures.append(failure(plan, 2))
    broken = manifest.model_copy(update={"complete": False, "failed": [plan.units[2].name]})
    text = summary(broken, progress, plan.output)
    assert f"1 unit failed; tracebacks are in {plan.output}/_failed/" in text
    assert f"  {plan.units[2].name}: out of memory" in text


def test_failures_are_all_counted_and_some_are_kept(plan: Plan) -> None:
    manifest, _ = run_here(plan)
    progress = Progress(plan, stream=io.StringIO(), clock=Clock())
    for number in range(1_000):
        progress.add(failure(plan, 0).model_copy(update={"unit": f"lost-{number}"}))
    assert len(progress.failures) == 5 and "1000 failed" in progress.line()
    lines = summary(manifest, progress, plan.output).splitlines()
    place = lines.index(f"1000 units failed; tracebacks are in {plan.output}/_failed/, the same command tries again:")
    assert lines[place + 1] == "  lost-0: out of memory" and lines[place + 6] == "  and 995 more"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (3600, "1 h 00 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_summary_says_why_much_was_rejected(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=20)
    plan = plan_of(write_recipe(tmp_path, [FLIP, {**FLIP, "name": "fine"}]))
    manifest, _ = run_here(plan)
    assert manifest.counts.reasons == manifest.counts.quarantine_reasons == {}
    why = {"black": 3, "unmarkable": 11}
    counts = manifest.branches["flipped"].model_copy(update={"rejected": 14, "accepted": 26, "reasons": why})
    little = manifest.branches["fine"].model_copy(update={"rejected": 2, "accepted": 38, "reasons": {"black": 2}})
    told = manifest.model_copy(update={"branches": {"flipped": counts, "fine": little}})
    lines = summary(told, Progress(plan, stream=io.StringIO()), "out").splitlines()
    place = lines.index("flipped: 14 of 40 images were rejected: unmarkable 11, black 3")
    assert lines[place + 1].startswith("  unmarkable: use png")
    assert "psnr_db" in lines[place + 1]
    assert not any(line.startswith("fine:") for line in lines)


def test_the_summary_and_the_card_say_why_rows_are_in_quarantine(tmp_path: Path) -> None:
    images: list[bytes | None] = [*photos(6), b"no image", None, photos(1)[0][:90]]
    write_shard(tmp_path / "data/a.parquet", images, labels=[0] * 9)
    plan = plan_of(write_recipe(tmp_path))
    manifest, outcomes = run_here(plan)
    why = {"decode_failed": 1, "not_an_image": 1, "null_image": 1}
    assert [each.quarantine_reasons for each in outcomes if isinstance(each, UnitRecord)] == [why]
    assert manifest.branches["flipped"].quarantine_reasons == why
    line = "flipped: 3 of 9 rows are in quarantine: decode_failed 1, not_an_image 1, null_image 1"
    assert line in summary(manifest, Progress(plan, stream=io.StringIO()), "out").splitlines()
    card = (tmp_path / "out/README.md").read_text()
    assert "| `flipped` | rows quarantined | `null_image` | 1 |" in card
    store = open_store(str(tmp_path / "out"))
    write_report(store, manifest)
    assert "<code>null_image</code> 1" in store.read(REPORT).decode()


def test_a_record_knows_why_its_images_were_rejected(tmp_path: Path) -> None:
    write_input(tmp_path / "data", shards=1, rows=8)
    gates = {"gates": [{"sharpness": {"min_ratio": 1e9}}], "max_attempts": 3}
    _, outcomes = run_here(plan_of(write_recipe(tmp_path, quality=gates)))
    (record,) = outcomes
    assert isinstance(record, UnitRecord)
    assert (record.rejected, record.retried) == (16, 32)
    assert record.reasons == {"sharpness": 16}
