"""Attempt accounting: the attempts and gate scores of a unit are checked row by row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.fixtures.commit_logs import change_rows, records_in, update
from tests.fixtures.data_sets import findings
from tests.fixtures.gated import first_unit, rewrite


def all_scores(score: float) -> Callable[[list[Any]], list[Any]]:
    return lambda rows: [[{**each, "score": score} for each in scores] for scores in rows]


@pytest.mark.parametrize(
    ("folder", "column", "change", "word"),
    [
        ("data", "quality", all_scores(0.999), "by its scores rejected (similarity), and it is accepted"),
        ("rejected", "quality", all_scores(0.5), "by its scores accepted, and it is rejected (similarity)"),
        ("data", "quality", lambda rows: [[] for _ in rows], "scored by []"),
        ("data", "quality", lambda rows: [scores[::-1] for scores in rows], "scored by ['blank'"),
        ("rejected", "rejected_reason", lambda rows: ["blank" for _ in rows], "it is rejected (blank)"),
        ("rejected", "rejected_reason", lambda rows: ["unsafe" for _ in rows], "scored by ['similarity'"),
        ("rejected", "attempt", lambda rows: [0 for _ in rows], "does not follow from its seed and source"),
    ],
)
def test_a_tampered_verdict_is_found(
    gated_copy: Path, folder: str, column: str, change: Callable[[list[Any]], list[Any]], word: str
) -> None:
    rewrite(gated_copy, folder, column, change)
    assert any(word in finding for finding in findings(gated_copy)), findings(gated_copy)


def test_a_vanished_attempt_is_found_though_every_sum_is_mended(gated_copy: Path) -> None:
    def without_a_first_attempt(table: pa.Table) -> pa.Table:
        gone = table.column("attempt").to_pylist().index(0)
        return table.filter(np.arange(table.num_rows) != gone)

    record = records_in(gated_copy)[first_unit(gated_copy)]
    change_rows(gated_copy, record.unit, "rejected", without_a_first_attempt, retried=record.retried - 1)
    assert any("attempts [1" in finding for finding in findings(gated_copy)), findings(gated_copy)


def test_final_and_earlier_refusals_are_not_mixed_up(gated_copy: Path) -> None:
    record = records_in(gated_copy)[first_unit(gated_copy)]
    lie = {"rejected": record.rejected + 1, "retried": record.retried - 1, "accepted": record.accepted - 1}
    update(gated_copy, record.unit, **lie)
    assert any("rejected for good by its record" in finding for finding in findings(gated_copy)), findings(gated_copy)


def test_another_number_of_attempts_in_the_manifest_is_found(gated_copy: Path) -> None:
    manifest = json.loads((gated_copy / "manifest.json").read_text())
    for chain in manifest["chains"]:
        chain["attempts"] = 4
    (gated_copy / "manifest.json").write_text(json.dumps(manifest))
    assert any("not made again after 3 of 4" in finding for finding in findings(gated_copy))
