"""Planning and running a recipe from Python."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from palimpsest.datasets import StrPath
from pipeline.errors import JobError, RecipeError, RunError
from pipeline.monitoring.stopping import stoppable, stopped_by
from pipeline.plan import Plan
from pipeline.planning.planner import plan_recipe
from pipeline.planning.recipe_file import Override, as_data, base_of, complete, plain, read_recipe
from pipeline.watermark_key import chosen_key, key_id
from pipeline.working_dir import refuse_packed_keys
from schemas.manifest import Counts, Failure, Manifest, UnitRecord
from schemas.recipe import Recipe

RecipeSource = StrPath | Mapping[str, Any] | Recipe


@dataclass(frozen=True, repr=False)
class RunResult:
    """The data set that a run made or went on with.

    Attributes:
        output: its absolute path or URI.
        manifest: everything the data set says of itself, `manifest.json` of it.
    """

    output: str
    manifest: Manifest = field(repr=False)

    @property
    def data(self) -> str:
        """The folder of the Parquet files with the accepted images, for `pandas.read_parquet` and others."""
        return f"{self.output}/data"

    @property
    def complete(self) -> bool:
        """Whether every unit is done. False: units in `failed` were tried three times; the same call tries again."""
        return self.manifest.complete

    @property
    def failed(self) -> list[str]:
        """Names of units that failed for good; `_failed/<name>.json` in the output has the traceback of each."""
        return self.manifest.failed

    @property
    def counts(self) -> Counts:
        """Sums over all branches: images `asked`, `accepted`, `rejected`; source rows `quarantined`; and reasons."""
        return self.manifest.counts

    @property
    def branches(self) -> dict[str, Counts]:
        """The same by branch."""
        return self.manifest.branches

    def __repr__(self) -> str:
        counts = self.counts
        figures = f"accepted={counts.accepted}, rejected={counts.rejected}, quarantined={counts.quarantined}"
        return f"RunResult({self.output!r}, complete={self.complete}, {figures}, failed={len(self.failed)})"


def plan(
    recipe: RecipeSource,
    *,
    input: StrPath | Sequence[StrPath] | None = None,
    output: StrPath | None = None,
    overrides: Mapping[str, Any] | None = None,
    limit: int | None = None,
    key: bytes | None = None,
) -> Plan:
    """Decide what a run would do, and run nothing: reads footers, first rows and the columns without images.

    Args:
        recipe: a YAML file (path or URI), its keys and values as a dict, or a `Recipe`. Relative paths in it are
            relative to the file's folder; those of a dict or `Recipe` to the working directory.
        input: instead of `input.uri`: a path, glob or URI, or a list of these.
        output: instead of `output.uri`.
        overrides: further values by their keys with dots: `{"seed": 8, "branches.styled.copies": 2}`.
        limit: take only the first so many source rows, from 1: a preview.
        key: the watermark key, 16 bytes or more (`read_key`); without it that of the variable PALIMPSEST_KEY, if set.

    Raises:
        RecipeError: the recipe, a key, a value or an argument is wrong; one line that names it.
        InputError: the input cannot be found, read or understood.
        ModelError: a model file is missing or not safe to load.
    """
    refuse_packed_keys()
    if limit is not None and limit < 1:
        raise RecipeError(f"limit = {limit!r}: needs a whole number from 1")
    loaded, base = _loaded(recipe, input, output, overrides or {})
    return plan_recipe(loaded, base, limit, chosen_key(key))


def run(
    recipe: RecipeSource | Plan,
    *,
    input: StrPath | Sequence[StrPath] | None = None,
    output: StrPath | None = None,
    overrides: Mapping[str, Any] | None = None,
    limit: int | None = None,
    executor: Literal["ray", "inline"] = "ray",
    address: str = "local",
    key: bytes | None = None,
    progress: bool | Callable[[UnitRecord | Failure], None] = True,
    only: Sequence[str] = (),
    units: Sequence[str] = (),
    prune: bool = False,
) -> RunResult:
    """Make a data set; the same call again makes only what is missing, however the one before ended.

    KeyboardInterrupt, and whatever else stops it, leaves a data set that holds what was made (`complete` False) and
    goes on to the caller. Signals stay with the program that this is called from. Works in any thread (runs on Ray of
    several threads go one after another), and beside a running event loop, which waits meanwhile.

    Args:
        recipe: as `plan` takes it, or a `Plan`, which is taken as it is.
        input, output, overrides, limit: as for `plan`; not beside a `Plan`.
        executor: `ray`, or `inline`: in this process, one unit after another, without Ray.
        address: of Ray: `local` starts one for this run, `auto` is the cluster that this machine is a node of,
            HOST[:PORT] that with this head. Where `ray.init()` was called before, its Ray is used and left running.
        key: as for `plan`; a `Plan` runs with the key that it was made with.
        progress: whether to show a bar or lines on stderr; or a function, called in this thread with each unit that
            ends: its `UnitRecord`, or its `Failure` where all attempts failed. What the function raises stops the run.
        only: names of branches; units of others are not made.
        units: names of units, or patterns with `*` and `?`: these alone are made, also where they are there already.
        prune: remove what was made of shards that changed, or that are no longer in the input.

    Raises:
        JobError: recipe, input, model, key or output are not as they must be: RecipeError, InputError, ModelError,
            and ConflictError where the output holds what another plan made.
        BudgetError: more failed than `quality` in the recipe allows, or a branch made nothing; what was made is there.
        StorageError: the storage of the output failed.
        RunError: workers cannot go on, or Ray's own processes are gone; Ray then soon ends this process, too.
    """
    from pipeline.publishing.run_options import RunOptions
    from pipeline.run import run_plan

    if executor not in ("ray", "inline"):
        raise JobError(f"executor = {executor!r}: needs 'ray' or 'inline'")
    if not isinstance(recipe, Plan):
        planned = plan(recipe, input=input, output=output, overrides=overrides, limit=limit, key=key)
    elif (input, output, overrides, limit) == (None, None, None, None):
        planned = recipe
    else:
        raise JobError("a plan is run as it is: give input, output, overrides and limit to `plan`")
    key = chosen_key(key)
    _check_key(planned, key)
    listeners = (progress,) if callable(progress) else ()
    asked = RunOptions(tuple(only), tuple(units), prune)
    with _stoppable():
        manifest = run_plan(planned, executor, address, key, progress is True, listeners, asked)
    return RunResult(planned.output, manifest)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let a run be stopped; raise RunError where Ray's own processes stopped it."""
    with stoppable(()):
        try:
            yield
        except KeyboardInterrupt as error:
            stopped = stopped_by(error)
            if stopped.abrupt:  # not asked for: Ray's processes are gone
                raise RunError(str(stopped)) from None
            raise


def _check_key(planned: Plan, key: bytes | None) -> None:
    """Raise JobError where images would be marked with another key than the plan was made with."""
    if planned.recipe.watermark != "none" and key is not None and key_id(key) != planned.key_id:
        with_key = "without a key" if planned.key_id is None else f"with key {planned.key_id}"
        raise JobError(f"the plan was made {with_key}, and this is key {key_id(key)}: give the same key to `plan`")


def _loaded(
    recipe: RecipeSource, input: StrPath | Sequence[StrPath] | None, output: StrPath | None, changes: Mapping[str, Any]
) -> tuple[Recipe, str]:
    """Return the recipe with its changes, and the folder its relative paths are relative to."""
    if isinstance(recipe, str | os.PathLike):
        path = os.fspath(recipe)
        path = path if "://" in path else str(Path(path).expanduser())
        data, base = read_recipe(path), base_of(path)
    else:
        data, base = as_data(recipe), str(Path.cwd())
    for name, given in (("input", input), ("output", output)):
        if isinstance(given, str) and not given.strip():  # an unset variable
            raise RecipeError(f"{name} is empty; name a folder, or leave it out")
    overrides = [Override(path, plain(value), f"overrides[{path!r}]") for path, value in changes.items()]
    return complete(data, overrides, plain(input), plain(output)), base
