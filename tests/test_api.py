"""`import palimpsest`: the names that other people's code may use, what importing them costs, and what they do."""

import ast
import inspect
import io
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import palimpsest
from tests.fixtures.data_sets import CLASSES, FLIP, contents, rows_of, write_input, write_recipe

ROOT = Path(__file__).resolve().parent.parent
KEY = b"a key of the tests"
NAMES = """
Applied Assets BranchEstimate BranchStatus BudgetError ClassRequirements ConflictError Counts DatasetStatus Draws
Driver Failure Fittable Gate ImageBatch InputError JobError MadeBatch Manifest ModelError NO_PARTNER Noise Operator
PalimpsestError Parameters Partner PartnerRow Pixels Plan Recipe RecipeError ReferenceImage ReplayResult Requirements
RowError RunError RunResult StorageError TraceResult UnitError UnitRecord Verification __version__ estimate gates
generators operators plan read_key replay report run status trace verify
"""
"""What is public. A name that goes, or means something else, breaks the code of others: think, then change this."""


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of 20 images as a dict, with paths relative to nothing."""
    write_input(folder / "data", shards=1, rows=10)
    output = {"uri": folder / "out", "rows_per_unit": 5, "encoding": "png"}
    return {
        "version": 1,
        "seed": 7,
        "input": {"uri": folder / "data"},
        "output": output,
        "branches": [FLIP],
        "watermark": "none",
    } | changes


def test_the_public_names_are_these() -> None:
    assert sorted(palimpsest.__all__) == sorted(NAMES.split())
    assert dir(palimpsest) == sorted(palimpsest.__all__)


def test_every_public_name_is_imported_for_readers_and_loaded_for_the_interpreter() -> None:
    tree = ast.parse((ROOT / "palimpsest/__init__.py").read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        (node.module, alias.name)
        for node in ast.walk(typed)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    loaded = {(module, name) for module, names in palimpsest._MODULES.items() for name in names}
    assert loaded == imported
    assert sorted(name for _, name in loaded) == sorted(palimpsest.__all__)
    for name in palimpsest.__all__:
        assert getattr(palimpsest, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'plans'"):
        palimpsest.plans  # noqa: B018


@pytest.mark.parametrize("name", sorted(set(NAMES.split()) - {"NO_PARTNER", "Pixels", "__version__"}))
def test_every_public_name_says_what_it_is(name: str) -> None:
    value = getattr(palimpsest, name)
    text = inspect.getdoc(value)
    assert text
    if inspect.isfunction(value) and value.__module__.startswith("palimpsest."):
        assert "Raises:" in text
        for parameter in inspect.signature(value).parameters:
            assert f"{parameter}" in text.partition("Args:")[2], parameter


def test_importing_it_brings_no_heavy_library() -> None:
    code = (
        "import sys, palimpsest\n"
        "assert not {'torch', 'ray', 'pandas', 'numpy', 'pydantic', 'pyarrow'} & set(sys.modules), 'by import'\n"
        "palimpsest.Operator, palimpsest.Gate, palimpsest.RowError, palimpsest.generators\n"
        "assert not {'torch', 'ray', 'pandas', 'pyarrow'} & set(sys.modules), 'by the nouns'\n"
        "palimpsest.plan, palimpsest.run, palimpsest.verify, palimpsest.Verification, palimpsest.operators()\n"
        "assert not {'torch', 'ray'} & set(sys.modules), 'by the functions'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_recipe_is_a_path_a_dict_or_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_input(tmp_path / "data", shards=1, rows=10)
    path = write_recipe(tmp_path)
    by_path = palimpsest.plan(path)
    as_dict = {**by_path.recipe.model_dump(), "input": {"uri": "data/*.parquet"}, "output": by_path.recipe.output}
    as_dict["output"] = {"uri": "out", "rows_per_unit": 10}
    monkeypatch.chdir(tmp_path)  # what relative paths of a dict are relative to
    by_dict = palimpsest.plan(as_dict)
    by_recipe = palimpsest.plan(palimpsest.Recipe.model_validate(as_dict))
    assert by_path.digest == by_dict.digest == by_recipe.digest
    assert {plan.output for plan in (by_path, by_dict, by_recipe)} == {str(tmp_path / "out")}
    assert repr(by_path) == (
        f"<Plan {by_path.digest[:12]}: branches flipped; 1 shards, 1 units; output {tmp_path / 'out'}>"
    )


def test_what_a_plan_changes_of_a_recipe(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    asked = {"branches.flipped.copies": 3, "seed": 8}
    changed = palimpsest.plan(given, input=[tmp_path / "data"], output=tmp_path / "o", overrides=asked, limit=4)
    assert given == recipe(tmp_path), "the caller's dict is the caller's"
    assert (changed.recipe.seed, changed.branches[0].copies, changed.limit) == (8, 3, 4)
    assert (changed.output, changed.recipe.input.uri) == (str(tmp_path / "o"), (str(tmp_path / "data"),))
    again = palimpsest.plan(changed.recipe, limit=4)
    assert again.digest == changed.digest
    (estimate,) = palimpsest.estimate(changed)
    assert (estimate.images, estimate.units) == (12, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overrides": {"sead": 8}}, r"recipe\.sead: unknown key \(did you mean 'seed'\?\)"),
        ({"overrides": {"branches.styled.copies": 8}}, r"overrides\['branches.styled.copies'\]: no entry 'styled'"),
        ({"limit": 0}, "limit = 0: needs a whole number from 1"),
        ({"input": " "}, "input is empty"),
        ({"key": b"short"}, "key: a key has 16 to 65536 bytes, this one has 5"),
    ],
)
def test_what_is_wrong_with_a_plan_is_one_line(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(palimpsest.RecipeError, match=message):
        palimpsest.plan(recipe(tmp_path), **arguments)


def test_a_dict_that_holds_itself_ends() -> None:
    endless: dict[str, Any] = {"version": 1}
    endless["input"] = endless
    with pytest.raises(palimpsest.RecipeError, match="more than 32 levels"):
        palimpsest.plan(endless)


def test_what_is_wrong_with_a_run_is_one_line(tmp_path: Path) -> None:
    marked = recipe(tmp_path, watermark={"scheme": "stdm"})
    without = palimpsest.plan(marked)
    with pytest.raises(palimpsest.RecipeError, match="from Python, `key=`"):
        palimpsest.run(without, executor="inline")
    with pytest.raises(palimpsest.JobError, match="the plan was made without a key, and this is"):
        palimpsest.run(without, executor="inline", key=KEY)
    with pytest.raises(palimpsest.JobError, match="give input, output, overrides and limit to `plan`"):
        palimpsest.run(without, limit=2)
    with pytest.raises(palimpsest.JobError, match="executor = 'spark': needs 'ray' or 'inline'"):
        palimpsest.run(without, executor="spark")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"as read_key\(FILE\) returns them, not str"):
        palimpsest.run(marked, key="palimpsest.key")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_run_is_verified_traced_replayed_and_shown(tmp_path: Path) -> None:
    ended: list[palimpsest.UnitRecord | palimpsest.Failure] = []
    asked = recipe(tmp_path, watermark={"scheme": "stdm"})
    made = palimpsest.run(asked, executor="inline", key=KEY, progress=ended.append)
    assert repr(made) == (
        f"RunResult('{tmp_path / 'out'}', complete=True, accepted=20, rejected=0, quarantined=0, failed=0)"
    )
    assert (made.counts.asked, made.branches["flipped"].accepted, made.failed) == (20, 20, [])
    assert [(outcome.unit[:8], type(outcome)) for outcome in ended] == [("flipped-", palimpsest.UnitRecord)] * 2
    verified = palimpsest.verify(made.output, KEY)
    assert (verified.ok, verified.images, verified.watermarks, verified.sealed) == (True, 20, 20, True)
    row = rows_of(tmp_path / "out")[7]
    data = row["image"]["bytes"]
    (tmp_path / "found.png").write_bytes(data)
    image = Image.open(io.BytesIO(data))
    for found in (tmp_path / "found.png", str(tmp_path / "found.png"), data, image, palimpsest_pixels(image)):
        traced = palimpsest.trace(found, tmp_path / "out", KEY)
        assert traced.row is not None
        assert traced.row["sample_id"] == row["sample_id"]
    assert palimpsest.replay(made.output, row["sample_id"], KEY).equal
    assert palimpsest.report(made.output, KEY) == f"{made.output}/report/index.html"
    assert palimpsest.verify(made.output, KEY).ok
    assert CLASSES[row["label"]] in made.manifest.classes


def palimpsest_pixels(image: Image.Image) -> Any:
    import numpy as np

    return np.asarray(image)


def test_what_cannot_be_traced_is_one_line(tmp_path: Path) -> None:
    import numpy as np

    with pytest.raises(palimpsest.RecipeError, match="trace needs the watermark key"):
        palimpsest.trace(b"", tmp_path)
    with pytest.raises(palimpsest.InputError, match="the image: not an image that can be read: empty_image"):
        palimpsest.trace(b"", tmp_path, KEY)
    with pytest.raises(palimpsest.InputError, match=r"the image is float64 \(2, 2\): it must be uint8"):
        palimpsest.trace(np.zeros((2, 2)), tmp_path, KEY)  # type: ignore[arg-type]
    with pytest.raises(palimpsest.InputError, match=r"no manifest.json here; is this a Palimpsest data set\?"):
        palimpsest.verify(tmp_path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_a_pillow_image_is_read_as_its_file_is(mode: str) -> None:
    from pipeline.audit.trace import read_image

    gradient = Image.linear_gradient("L").resize((16, 16))
    image = Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(180))).convert(mode)
    out = io.BytesIO()
    image.save(out, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    assert (read_image(image) == read_image(out.getvalue())).all()


def test_operators_and_gates_are_classes_by_name() -> None:
    found = palimpsest.operators()
    assert issubclass(found["flip"], palimpsest.Operator)
    assert found["flip"].name == "flip"
    assert issubclass(palimpsest.gates()["blank"], palimpsest.Gate)


def test_an_interrupt_leaves_what_the_next_run_goes_on_with(tmp_path: Path) -> None:
    asked = recipe(tmp_path)
    whole = palimpsest.run(asked, executor="inline", output=tmp_path / "whole", progress=False)

    def interrupt(outcome: palimpsest.UnitRecord | palimpsest.Failure) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        palimpsest.run(asked, executor="inline", progress=interrupt)
    found = palimpsest.verify(tmp_path / "out")
    assert (found.findings, found.images) == (["the manifest says incomplete: 1 of 2 units are there"], 10)
    ended: list[object] = []
    made = palimpsest.run(asked, executor="inline", progress=ended.append)
    assert (made.complete, len(ended)) == (True, 1)
    assert contents(tmp_path / "out") == contents(Path(whole.output))


def test_signals_stay_with_the_program(tmp_path: Path) -> None:
    import signal

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    meanwhile: list[Any] = []
    palimpsest.run(
        recipe(tmp_path),
        executor="inline",
        progress=lambda outcome: meanwhile.extend(signal.getsignal(number) for number in numbers),
    )
    assert meanwhile == before * 2
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_thread_may_run_inline_and_on_a_ray_that_is_there(tmp_path: Path, ray_local: None) -> None:
    import ray

    node = ray.get_runtime_context().get_node_id()
    made: list[palimpsest.RunResult] = []
    inline = palimpsest.plan(recipe(tmp_path), output=tmp_path / "inline")
    threads = [
        threading.Thread(target=lambda: made.append(palimpsest.run(inline, executor="inline", progress=False))),
        threading.Thread(target=lambda: made.append(palimpsest.run(recipe(tmp_path), progress=False))),
    ]
    for thread in threads:
        thread.start()
        thread.join()
    assert [each.complete for each in made] == [True, True]
    assert contents(tmp_path / "inline") == contents(tmp_path / "out")
    assert ray.is_initialized()
    assert ray.get_runtime_context().get_node_id() == node


def test_an_interrupt_on_a_ray_that_is_there_leaves_it(tmp_path: Path, ray_local: None) -> None:
    import ray

    asked = recipe(tmp_path)

    def interrupt(outcome: palimpsest.UnitRecord | palimpsest.Failure) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        palimpsest.run(asked, progress=interrupt)
    assert ray.is_initialized()
    made = palimpsest.run(asked, progress=False)
    assert (made.complete, made.counts.accepted) == (True, 20)


NOTEBOOK = """
import asyncio, os, signal, sys, threading
import ray
import palimpsest

recipe = palimpsest.Recipe.model_validate_json(sys.argv[1])


async def cell():
    return palimpsest.run(recipe, output="one", progress=False)


assert asyncio.run(cell()).complete, "a Ray of its own, in a running event loop"
assert not ray.is_initialized()

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
node = ray.get_runtime_context().get_node_id()
assert asyncio.run(cell()).complete
assert palimpsest.run(recipe, output="two", progress=False).complete, "one CPU is enough"


@ray.remote
def one():
    return 1


assert ray.get(one.remote()) == 1
assert ray.get_runtime_context().get_node_id() == node
ray.shutdown()

made = []
threads = [
    threading.Thread(target=lambda name=name: made.append(palimpsest.run(recipe, output=name, progress=False)))
    for name in ("three", "four")
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert [each.complete for each in made] == [True, True], "a Ray of its own for each, one after the other"
assert not ray.is_initialized()

try:
    palimpsest.run(recipe, output="five", progress=lambda outcome: os.kill(os.getpid(), signal.SIGINT))
except KeyboardInterrupt:
    assert not ray.is_initialized()
    assert palimpsest.run(recipe, output="five", executor="inline", progress=False).complete
else:
    raise AssertionError("Ctrl-C was lost")
"""


@pytest.mark.slow
def test_a_notebook_keeps_its_ray_and_its_signals(tmp_path: Path) -> None:
    text = palimpsest.plan(recipe(tmp_path)).recipe.model_dump_json()
    command = [sys.executable, "-c", NOTEBOOK, text]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for name in ("two", "three", "four", "five"):
        assert contents(tmp_path / name) == contents(tmp_path / "one")


SCRIPT = """
from typing import ClassVar

import palimpsest
from palimpsest import Applied, Draws, ImageBatch, Noise, Operator, Parameters

plan = palimpsest.plan("recipe.yaml", overrides={"seed": 8})
reveal_type(plan)
reveal_type(palimpsest.run(plan, executor="inline").counts.accepted)
reveal_type(palimpsest.verify("out").ok)


class Same(Operator):
    name: ClassVar[str] = "same"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "this test"
    Params = Parameters

    def draw(self, batch: ImageBatch) -> Draws:
        return Draws({})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        assert batch.images is not None
        return Applied(batch.images.copy())


palimpsest.run(plan, executor="dask")
"""


@pytest.mark.slow
def test_a_script_of_others_is_checked_by_its_types(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--no-color-output", str(tmp_path / "script.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)  # strict, with what mypy knows of ROOT
    lines = [line.partition("script.py:")[2].partition(": ")[2] for line in done.stdout.splitlines()]
    assert [line.replace("builtins.", "") for line in lines[:3]] == [
        'note: Revealed type is "pipeline.plan.Plan"',
        'note: Revealed type is "int"',
        'note: Revealed type is "bool"',
    ], done.stdout
    assert 'Argument "executor" to "run" has incompatible type' in lines[3]
    assert "1 error in 1 file" in done.stdout
