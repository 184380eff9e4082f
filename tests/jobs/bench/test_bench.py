"""The bench: every contestant does the same work, and the figures are complete."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from jobs.bench import comparison, diffusion, inputs, stable_diffusion_edit
from jobs.bench.comparison import Run, run_contestant
from jobs.bench.contestants import bare_loop, diffusion_loop, palimpsest_run
from jobs.bench.contestants.diffusion_task import GenerationTask
from jobs.bench.contestants.pillow_images import PlainOperator, decode, encode
from jobs.bench.contestants.task import CASES, Case, Models, Task
from jobs.bench.process_memory import MemoryWatch, memory, tree
from jobs.bench.synthetic_photographs import photograph
from jobs.commands.bench import bench
from pipeline.errors import InputError, JobError
from pipeline.model_files.references import ASSETS
from pipeline.networks.generators.flow_matching import load_flow
from pipeline.networks.generators.samplers import sample
from pipeline.networks.pixel_tensors import to_pixels

ROWS = 24

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def light(own_cache: Path) -> Task:
    case = Case("light", ROWS, 64)
    return Task("light", str(inputs.synthetic_shards(case, ROWS)), "", case.size_px, executor="inline")


def images(folder: str, column: str = "id") -> dict[str, bytes]:
    """The encoded images in a contestant's output, by id."""
    found = {}
    for path in sorted(Path(folder).rglob("*.parquet")):
        for row in pq.read_table(path, columns=["image", column]).to_pylist():
            image = row["image"]
            found[row[column]] = image["bytes"] if isinstance(image, dict) else image
    return found


def outputs(task: Task, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What the product and the bare loop make of a task, both in this process."""
    ours, bare = replace(task, output=str(folder / "ours")), replace(task, output=str(folder / "bare"))
    palimpsest_run.main(ours.to_json())
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["rows"] == ROWS and result["seconds"] > 0
    assert set(result["spent"]) == {"plan_s", "report_s", "units_s", "operators_s"}
    Path(bare.output).mkdir()
    operator = PlainOperator(bare)
    assert sum(bare_loop.convert(path, bare, operator) for path in bare.shards()) == ROWS
    return images(f"{ours.output}/data"), images(bare.output)


def test_light_makes_the_same_bytes_as_the_bare_loop(light: Task, tmp_path: Path, capsys) -> None:
    ours, bare = outputs(light, tmp_path, capsys)
    assert len(ours) == ROWS
    assert ours == bare


def test_adain_makes_the_same_images_as_the_reference_network(tmp_path: Path, capsys) -> None:
    case = Case("adain", ROWS, 32)
    models = inputs.reference_models(case)
    task = Task("adain", str(inputs.synthetic_shards(case, ROWS)), "", case.size_px, models, executor="inline")
    ours, bare = outputs(task, tmp_path, capsys)
    assert len(ours) == ROWS
    for name, image in bare.items():
        difference = np.abs(decode(image, 32).astype(int) - decode(ours[name], 32).astype(int))
        assert difference.mean() < 0.5, name  # grey levels; JPEG rounds apart what differs by 1e-6
        assert decode(image, 32).std() > 2, "an image without content would prove nothing"


def test_the_bare_loop_runs_in_its_own_processes(light: Task) -> None:
    run = run_contestant(light, "bare_loop")
    assert run.rows == ROWS
    assert run.images_per_s > 0
    assert set(run.memory_mib) == {"rss", "own", "driver"}


def test_the_figures_are_complete(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    speeds = {"palimpsest": [8.0, 10.0, 9.0], "bare_loop": [10.0, 12.0, 30.0], "ray_data": [4.5, 4.0, 5.0]}

    def run_contestants(task: Task, rounds: int) -> dict[str, list[Run]]:
        spent = {"palimpsest": {"plan_s": 0.1, "report_s": 0.2}}
        memory_mib = {"rss": 3.0, "own": 2.0, "driver": 1.0}
        return {
            name: [Run(360, 360 / value, memory_mib, spent.get(name, {})) for value in values[:rounds]]
            for name, values in speeds.items()
        }

    monkeypatch.setattr(comparison, "run_contestants", run_contestants)
    monkeypatch.setitem(CASES, "light", Case("light", ROWS, 64))
    assert bench("light", None, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images_per_s"] == {"palimpsest": 9.0, "bare_loop": 12.0, "ray_data": 4.5}
    assert found["ratio"] == {"bare_loop": 0.75, "ray_data": 2.0}
    assert found["spread"]["bare_loop"] == pytest.approx(20 / 12, abs=1e-3)
    assert found["each_round"]["ray_data"] == [4.5, 4.0, 5.0]
    assert found["rounds"] == 3 and found["rows"] == 360
    for key in ("machine", "commit", "date", "versions", "peak_memory_mib", "palimpsest_s", "input", "settings"):
        assert found[key], key
    assert bench("light", None, as_json=False) == 0
    assert "0.75 x it" in capsys.readouterr().out


def test_contestants_that_differ_in_rows_are_an_error(light: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"palimpsest": 24, "bare_loop": 23}
    monkeypatch.setattr(comparison, "run_contestant", lambda task, name: Run(rows[name], 1.0, {}))
    with pytest.raises(JobError, match="same number of images"):
        comparison.run_contestants(light, 1, list(rows))


@pytest.mark.slow
def test_a_contestant_that_fails_is_one_line(light: Task) -> None:
    models = Models("none.pth", "none.pth", "none.png")
    with pytest.raises(JobError, match="bare_loop failed"):
        run_contestant(replace(light, operator="adain", models=models), "bare_loop")


def test_given_shards_keep_bytes_and_leave_broken_rows_out(tmp_path: Path) -> None:
    good = [encode(photograph(seed, 40)) for seed in range(3)]
    rows = [(good[0], 1, "a"), (b"no image", 2, "b"), (good[1], 3, "c"), (good[2], 4, "d")]
    inputs._write(tmp_path, rows)
    folder = inputs.given_shards(str(tmp_path), rows=2)
    assert list(images(str(folder)).values()) == good[:2]
    (tmp_path / "broken").mkdir()
    inputs._write(tmp_path / "broken", [(b"no image", 0, "a")])
    with pytest.raises(InputError, match="no image in it"):
        inputs.given_shards(str(tmp_path / "broken"), rows=2)


def test_photographs_repeat_and_weigh_as_photographs_do() -> None:
    assert np.array_equal(photograph(5, 64), photograph(5, 64))
    assert not np.array_equal(photograph(5, 64), photograph(6, 64))
    weights = [len(encode(photograph(seed, 256))) for seed in range(8)]
    assert 12_000 < np.median(weights) < 25_000


def test_the_peers_resize_as_the_product_does() -> None:
    from pipeline.shards.images.codecs import decode as our_decode
    from pipeline.shards.images.codecs import fit_square

    wide = encode(photograph(1, 96)[:64])
    assert np.array_equal(decode(wide, 48), fit_square(our_decode(wide, 10_000), 48))


def test_memory_of_a_process_tree() -> None:
    code = "import time; held = bytearray(b'1' * 80_000_000); print('ready', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        assert child.pid in tree(os.getpid())
        assert memory(child.pid)["VmRSS"] > 80_000_000
        with MemoryWatch(child.pid) as watch:
            time.sleep(1.5)
        assert watch.peak.own > 76 and watch.peak.rss >= watch.peak.driver > 76
    finally:
        child.kill()
        child.communicate()
    assert memory(child.pid) == {}


@pytest.mark.slow
def test_diffusion_weighs_speed_against_accuracy(capsys) -> None:
    smallest = replace(stable_diffusion_edit.TINY, loop_images=1, images=2)
    found = diffusion.measure(
        None,
        rounds=1,
        images=30,
        curve=(4, 2),
        executor="inline",
        loop_images=2,
        classifier_steps=20,
        stable_size=smallest,
    )
    assert found["stable_diffusion"]["images_per_s"]["palimpsest"] > 0
    assert found["stable_diffusion"]["note"] == stable_diffusion_edit.NOT_REAL
    assert [point["steps"] for point in found["curve"]] == [4, 2, 4]
    assert all(0 < point["accuracy"] < 1 and point["images_per_s"] > 0 for point in found["curve"])
    assert found["ratio"]["bare_loop"] > 1
    chosen = found["chosen"]
    assert chosen["accuracy"] >= found["curve"][0]["accuracy"] - diffusion.COST_ALLOWED
    text = diffusion.as_text(found)
    assert "x the loop" in text and text.count("adams") == 2


def test_the_loop_and_the_product_paint_by_the_same_arithmetic(tmp_path: Path, capsys) -> None:
    diffusion_loop.main(GenerationTask(2, 3, str(tmp_path / "loop")).to_json())
    assert json.loads(capsys.readouterr().out)["rows"] == 2
    torch.manual_seed(0)
    noise = torch.cat([torch.randn(1, 1, 28, 28) for _ in range(2)])
    net, _ = load_flow(ASSETS / "models" / "fashion-diffusion.safetensors")
    wanted = to_pixels(sample(net, noise, torch.tensor([0, 1]), 3))
    for index in range(2):
        made = np.asarray(Image.open(tmp_path / "loop" / f"{index}.png")).astype(int)
        assert np.abs(made - wanted[index, :, :, 0].numpy().astype(int)).max() <= 1
