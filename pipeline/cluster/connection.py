"""The connection to Ray: a local one of our own, the cluster this machine belongs to, or a named head."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray.util.client

from pipeline.cluster.ray_internals import cluster_address, hide_events, kill_local_ray, loopback
from pipeline.cluster.watchdog import watched
from pipeline.errors import JobError, RunError
from pipeline.messages import error_line
from pipeline.monitoring.stopping import RESUMES, Stopped, last_words
from pipeline.watermark_key import key_out_of_environment

PORT = 6379
"""Where a head listens unless its address says otherwise."""
CONNECT_TIMEOUT_S = 10.0
"""Seconds a head may take to accept a connection."""
LOST = f"Ray's raylet or its control store (GCS) is gone (killed, or out of memory); {RESUMES}"
"""Said where Ray's native part ends this process before the watchdog watches, or after it."""


@contextlib.contextmanager
def connect(address: str = "local", gpus: float | None = None, cpus: float | None = None) -> Iterator[None]:
    """Connect this process to Ray, and disconnect at the end.

    A Ray that this process is connected to already (`ray.init()` in a notebook) is used, and it is there afterwards,
    whatever `address` says.

    A local Ray gets one logical CPU for each core; it listens on the loopback interface alone.
    Ray's own settings decide about authentication. Signal handlers stay as they were.

    Args:
        address: `local`: a Ray of our own, ended with the context; `auto`: the cluster that this machine is a node of;
            HOST or HOST:PORT: the cluster with that head, of which this machine is a node, too.
        gpus: logical GPUs of a local Ray; what the machine has if None.
        cpus: logical CPUs of a local Ray; from the number of cores if None.

    Raises:
        JobError: there is no cluster at the address, or it does not let this process in; the connection that is there
            is one of Ray Client.
        RunError: a local Ray does not start, or the cluster was lost while this process connected to it.
    """
    if ray.is_initialized():
        _check_connection()
        yield
        return
    with hide_events(), contextlib.ExitStack() as starting:
        starting.enter_context(last_words(LOST))
        _start(address, gpus, cpus)
        with _connection(address == "local"):
            starting.close()
            yield


def _check_connection() -> None:
    """Raise JobError where this process is connected by Ray Client, through which a run cannot look at its cluster."""
    client: Any = ray.util.client.ray
    if client.is_connected():
        raise JobError(
            "this process is connected to Ray by Ray Client (ray://), through which runs do not work: call "
            "ray.shutdown(), and run on the cluster: ray job submit --working-dir . -- python SCRIPT"
        )


def _start(address: str, gpus: float | None, cpus: float | None) -> None:
    if "://" in address:
        raise JobError(
            f"--address {address}: run on the cluster instead: "
            "ray job submit --working-dir . -- python -m jobs run RECIPE --address auto"
        )
    with (
        _hide_native_output(),
        _keep_signal_handlers(),
        key_out_of_environment(),  # Ray's processes and workers inherit it; workers ask the driver
        loopback() if address == "local" else contextlib.nullcontext(),
    ):
        _init(address, gpus, cpus)
        _close_token()


def _close_token() -> None:
    """Make Ray's token readable for its owner alone; Ray 2.60 leaves its file open to other users of the machine."""
    path = Path("~/.ray/auth_token").expanduser()
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


@contextlib.contextmanager
def _connection(own: bool) -> Iterator[None]:
    """Shut Ray down at the end; raise `Stopped` where its processes were lost, in place of the errors that follow."""
    with contextlib.ExitStack() as stack:
        stack.callback(_shut_down)
        try:
            watchdog = stack.enter_context(watched(own))
        except Exception as error:  # Ray was lost as soon as it was there
            raise RunError(f"{LOST} ({error_line(error)})") from error
        try:
            yield
        except Exception as error:
            if (lost := watchdog.probe()) is not None:
                raise lost from error
            raise
        finally:
            if watchdog.lost is not None:
                stack.pop_all()
                kill_local_ray(own)


def _shut_down() -> None:
    with last_words(LOST), _keep_signal_handlers():
        ray.shutdown()


def _init(address: str, gpus: float | None, cpus: float | None) -> None:
    if address != "local":
        _join(address)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        ray.init(
            address="local",
            num_cpus=int(cores if cpus is None else cpus),
            num_gpus=None if gpus is None else int(gpus),
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except Exception as error:  # Ray raises a dozen kinds here
        raise RunError(f"cannot start a local Ray: {_first_line(error)}; {RESUMES}") from error


def _join(address: str) -> None:
    cannot, head = f"--address {address}: cannot connect to Ray", None
    try:
        head = _reachable(address)
        ray.init(address=head, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray raises a dozen kinds here, its authentication another
        if head is not None and not _answers(head):
            raise RunError(f"{cannot}: its head was lost: {_first_line(error)}; {RESUMES}") from error
        raise JobError(f"{cannot}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next((line.strip(" .") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _answers(head: str) -> bool:
    try:
        return _reachable(head) == head
    except OSError:
        return False


def _reachable(address: str) -> str:
    """Return HOST:PORT of the cluster's head, once a connection to it succeeds; Ray itself would try for minutes.

    Raises:
        OSError: nothing listens there, or this machine belongs to no cluster.
    """
    if address == "auto":
        address = cluster_address()
        if not address:
            raise OSError("this machine is no node of a cluster; give its HOST, or `ray start` it")
    host, _, port = address.rpartition(":") if ":" in address else (address, "", str(PORT))
    with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S):
        return f"{host}:{port}"


@contextlib.contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Restore this process's signal handlers, which Ray replaces: its own prints a native stack trace on SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except SystemExit as error:  # what Ray's own handler raises while it starts
        if error.code != signal.SIGTERM:
            raise
        raise Stopped("stopped by SIGTERM", 128 + signal.SIGTERM) from None
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)


@contextlib.contextmanager
def _hide_native_output() -> Iterator[None]:
    """Make Ray's native part log fatal errors alone, and drop the lines it writes to descriptor 2 while it starts."""
    quiet = {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_USAGE_STATS_PROMPT_ENABLED": "0"}
    added = {name: value for name, value in quiet.items() if name not in os.environ}
    os.environ |= added
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        for name in added:
            os.environ.pop(name, None)
