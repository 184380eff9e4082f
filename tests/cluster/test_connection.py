"""Connecting to Ray: what cannot be connected to is one clear line."""

import time

import pytest
import ray

from pipeline.cluster.connection import connect
from pipeline.errors import JobError


def test_a_url_is_answered_with_the_command_that_works() -> None:
    if ray.is_initialized():
        pytest.skip("this process has a Ray already, which connect() uses")
    with pytest.raises(JobError, match="ray job submit"), connect("ray://head:10001"):
        pass


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1"])
def test_nobody_there_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    if ray.is_initialized():
        pytest.skip("this process has a Ray already, which connect() uses")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(JobError) as error, connect(address):
        pass
    assert str(error.value) == f"--address {address}: cannot connect to Ray: [Errno 111] Connection refused"
    assert time.monotonic() - started < 10


def test_a_ray_that_is_there_is_used_and_left_alone(ray_local: None) -> None:
    node = ray.get_runtime_context().get_node_id()
    with connect("local"):
        assert ray.get_runtime_context().get_node_id() == node
    assert ray.is_initialized()
    assert ray.cluster_resources()["GPU"] == 2
