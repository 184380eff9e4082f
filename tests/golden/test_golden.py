"""Every operator still makes what it made: a change of bytes must come with a new version and new goldens."""

import pytest

from tests.golden.cases import CASES, Case, difference, made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_output_is_the_golden(case: Case) -> None:
    assert difference(case, made(case)) <= case.tolerance, "`make golden` shows the difference"
