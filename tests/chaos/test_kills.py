"""A few kills of whole runs on Ray, at moments of a fixed seed; `make chaos` does fifty of a new one."""

from pathlib import Path

import pytest

from tests.chaos.kills import Kills


@pytest.mark.slow
def test_a_run_that_was_killed_three_times_is_the_undisturbed_one(tmp_path: Path) -> None:
    kills = Kills(seed=20, folder=tmp_path)
    try:
        kills.run(["driver", "actor", "everything"])
    finally:
        kills.close()
    assert kills.findings == []
