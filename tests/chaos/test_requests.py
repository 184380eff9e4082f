"""Requests to an object store by a whole run: one a unit, and a number that units do not change."""

from pathlib import Path

import pytest

from tests.chaos.requests import measure
from tests.fixtures.faulty_proxy import proxied
from tests.fixtures.object_stores import moto, s3_settings


@pytest.mark.slow
def test_a_unit_more_is_a_request_more(tmp_path: Path) -> None:
    found = []
    for units in (10, 60):
        with moto() as url, proxied(url) as proxy, s3_settings(proxy.url):
            found.append(measure(units, 4, proxy))
    few, many = found
    assert many["PUT"] - few["PUT"] <= 50 + 4  # a file a unit; lease and segments by the clock
    assert many.total() - few.total() <= 50 + 12
    assert few.total() <= 150
