"""Row failures: the first quarantined row of each kind, with its traceback, in `_failed/rows/`.

A kind is a branch, an error code and the operator or gate that failed. `quarantine/` itself holds no traceback: its
bytes are the same on every machine, and a traceback names files of one machine.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator

from pipeline.execution.window import Window
from pipeline.messages import format_traceback
from pipeline.plan import Unit
from pipeline.shards.output.store import Store
from schemas.manifest import RowFailure

FOLDER = "_failed/rows"


class RowFailures:
    """Collects the first failure of every kind in one unit."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._found: dict[str, RowFailure] = {}

    def note(self, window: Window) -> None:
        """Add the failures of a finished window."""
        for index, error in sorted(window.errors.items()):
            path = row_failure_path(self._unit.branch, error.code, error.part)
            if path not in self._found:
                self._found[path] = RowFailure(
                    branch=self._unit.branch,
                    code=error.code,
                    part=error.part,
                    unit=self._unit.name,
                    source_uri=window.rows[index].uri,
                    source_row=window.rows[index].row,
                    error=error.message,
                    traceback=error.traceback_text or format_traceback(error),
                )

    def write(self, store: Store) -> None:
        """Write the failures of kinds that have no record in the data set yet."""
        for path, found in self._found.items():
            if not store.exists(path):
                store.create(path, found.model_dump_json(indent=1).encode())


def row_failure_path(branch: str, code: str, part: str | None) -> str:
    """Return the path of the record of a kind."""
    name = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", each)[:60] for each in (branch, code, part) if each)
    return f"{FOLDER}/{name}.json"


def read_row_failures(store: Store, branch: str, codes: Iterable[str]) -> list[RowFailure]:
    """Return a branch's records with one of these error codes, in the order of the codes."""
    order = {code: place for place, code in enumerate(codes)}
    found = [failure for _, failure in _records(store)] if order else []
    ours = [failure for failure in found if failure.branch == branch and failure.code in order]
    return sorted(ours, key=lambda failure: order[failure.code])


def drop_row_failures(store: Store, counted: Iterable[tuple[str, str]]) -> None:
    """Remove records without a committed row of their kind; `counted` are the (branch, code) of all committed rows."""
    named = set(counted)
    for path, failure in _records(store):
        if (failure.branch, failure.code) not in named:
            store.remove(path)


def _records(store: Store) -> Iterator[tuple[str, RowFailure]]:
    """Yield every record with its path; other files in the folder are skipped."""
    for path in store.list(FOLDER):
        with contextlib.suppress(FileNotFoundError, ValueError):
            yield path, RowFailure.model_validate_json(store.read(path))
