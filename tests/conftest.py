"""One local Ray for the whole session, with logical CPUs and GPUs that this machine need not have."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before Ray is imported: a test cluster asks for no token, reports nothing, and its workers find `tests`.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_metrics_report_interval_ms", "1000")  # Ray's own 10 s would be waited for
# In memory, where there is room: a run waits for the disk some thirty times, a tenth of a second and more.
if (memory := Path("/dev/shm")).is_dir() and shutil.disk_usage(memory).free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))
os.environ["PALIMPSEST_CACHE"] = tempfile.mkdtemp(prefix="palimpsest-tests-")  # nothing of an earlier version
os.environ["PALIMPSEST_TEST_SITE"] = tempfile.mkdtemp(prefix="palimpsest-site-")  # for packages of others
os.environ["PYTHONPATH"] = os.pathsep.join(
    [
        str(Path(__file__).resolve().parent.parent),
        os.environ["PALIMPSEST_TEST_SITE"],
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
)


RAYS_OWN_WARNINGS = (
    "ignore::DeprecationWarning:ray.data.context",  # Ray Data 2.60 sets its own deprecated fields
)


def pytest_configure(config: pytest.Config) -> None:
    # Started with `&` or `nohup`: what the tests start would never hear Ctrl-C, or the terminal close.
    for name, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(name) is signal.SIG_IGN:
            signal.signal(name, default)
    for line in RAYS_OWN_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long groups first, so that no process ends alone."""
    from tests.fixtures.groups import SHARED, group_of

    long = {*SHARED, *(group_of(item.path) for item in items if item.get_closest_marker("slow"))}
    items.sort(key=lambda item: group_of(item.path) not in long)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What `--dist loadgroup` keeps in one process."""
    from tests.fixtures.groups import Groups

    return Groups(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_unconfigure() -> None:
    for name in ("PALIMPSEST_CACHE", "PALIMPSEST_TEST_SITE"):
        shutil.rmtree(os.environ[name], ignore_errors=True)


@pytest.fixture
def site() -> Iterator[Path]:
    """An empty folder on the path of this process and of those it starts; `tests/fixtures/outside.py` fills it."""
    from tests.fixtures.outside import SITE, on_the_path

    with on_the_path(SITE):
        yield SITE


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A Ray on this machine with six logical CPUs and two logical GPUs."""
    from pipeline.cluster.connection import connect

    with connect("local", gpus=2, cpus=6):
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One torch thread for a module's tests: more cost more than they bring on tiny networks."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny diffusion model by its kind (`tests/fixtures/tiny_models.py`), made when first asked for."""
    found: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        from tests.fixtures.tiny_models import save

        if kind not in found:
            found[kind] = save(kind, tmp_path_factory.mktemp("tiny"))
        return found[kind]

    return folder


@pytest.fixture(scope="session")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose gates refuse some images (`tests/fixtures/gated.py`); nobody changes it."""
    from tests.fixtures.gated import gated_run

    return gated_run(tmp_path_factory.mktemp("gated"))


@pytest.fixture
def gated_copy(gated: Path, tmp_path: Path) -> Path:
    """A copy of its data set that a test may spoil."""
    return Path(shutil.copytree(gated / "out", tmp_path / "out"))
