"""`train distill_diffusion`, tiny: a few steps come near many, and a restored task goes on to the last bit."""

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from jobs.commands.train import train
from jobs.train import distill_diffusion
from jobs.train.data.references import absolute_reference, local_model
from jobs.train.loop.config import read_config
from pipeline.errors import InputError, JobError, ModelError, RecipeError
from pipeline.model_files.model_file import read_metadata, save_model
from pipeline.networks.generators.flow_matching import (
    ARCHITECTURE,
    distilled_steps,
    drop_labels,
    flow_loss,
    load_flow,
    save_flow,
)
from pipeline.networks.generators.samplers import sample
from pipeline.networks.generators.unet import UNet
from tests.jobs.train.trainings import ROOT, images
from tests.networks.generators.test_flow_matching import TINY, network, noise

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 20
NAMES = ("dark", "bright", "striped")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that has learnt three classes of images, a little."""
    folder = tmp_path_factory.mktemp("teacher")
    rng, labels = np.random.default_rng(0), torch.arange(16) % 3
    torch.manual_seed(0)
    net = UNet(TINY)
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(120):
        pixels = torch.from_numpy(rng.uniform(-1, -0.6, (16, 1, 8, 8)).astype(np.float32))
        pixels[labels == 1] += 1.5
        pixels[labels == 2, :, ::2] += 1.5
        drawn = [torch.from_numpy(rng.standard_normal(size, np.float32)) for size in (pixels.shape, 16)]
        named = drop_labels(labels, torch.from_numpy(rng.random(16)), 0.1)
        optimiser.zero_grad()
        flow_loss(net, pixels, named, drawn[0], drawn[1].sigmoid()).backward()
        optimiser.step()
    save_flow(folder / "teacher.safetensors", net, NAMES)
    return folder / "teacher.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, and a teacher that is drawn."""
    images(tmp_path)
    save_flow(tmp_path / "teacher.safetensors", network(), NAMES)
    return tmp_path


def content(folder: Path, **training: Any) -> dict[str, Any]:
    budget = {"steps": STEPS, "seconds": 600, "checkpoint_seconds": 0.001, "logging_steps": 1, "grid_steps": 20}
    return {
        "out": str(folder / "runs"),
        "threads": 1,
        "teacher": {"model": str(folder / "teacher.safetensors"), "steps": 8},
        "start": None,
        "data": {"uri": str(folder / "tiny-images-idx3-ubyte.gz"), "size_px": 8, "held_out": 12},
        "training": budget | {"learning_rate": 0.001, "batch_size": 4, "warmup_steps": 2} | training,
    }


def task(folder: Path, teacher: dict[str, Any] | None = None, **training: Any) -> Any:
    settings = content(folder, **training)
    settings["teacher"] |= teacher or {}
    return distill_diffusion.build({"seed": 7, "rank": 0} | settings, torch.device("cpu"))


def apart(net: Any, teacher: Any, guidance: float = 1.0) -> float:
    """Median squared distance of images of four steps to those of the teacher's sampler, from the same noise."""
    labels, begin = torch.tensor([0, 1, 2, 0] * 16), noise(64, seed=9)
    with torch.no_grad():
        wanted = sample(teacher, begin, labels, 8, guidance, "heun")
        return float((sample(net, begin, labels, 4) - wanted).square().mean((1, 2, 3)).median())


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.slow
def test_four_steps_come_nearer_to_the_teachers_many(folder: Path, trained: Path, guidance: float) -> None:
    shutil.copy(trained, folder / "teacher.safetensors")
    made = task(folder, {"guidance": guidance}, batch_size=16, ema_decay=0.9)
    found = [made.step(step, step / 60)["loss"] for step in range(60)]
    assert np.mean(found[-10:]) < 0.6 * np.mean(found[:10])
    teacher, _ = load_flow(trained)
    assert apart(made.average.module, teacher, guidance) < 0.7 * apart(teacher, teacher, guidance)
    assert all(torch.equal(value, made.teacher.state_dict()[name]) for name, value in teacher.state_dict().items())
    if guidance != 1:  # it is folded in: without asking for it, images are nearer to those that have it
        assert apart(made.average.module, teacher, guidance) < 0.8 * apart(made.average.module, teacher)


@pytest.mark.parametrize(("share", "ways"), [(0.0, 0), (0.5, 1), (1.0, 2)])
def test_a_lesson_is_ways_from_noise_and_noisy_images(folder: Path, share: float, ways: int) -> None:
    made = task(folder, batch_size=8, trajectory_share=share)
    noisy, times, labels, wanted = made._training_batch(0)
    assert noisy.shape == wanted.shape == (8, 1, 8, 8) and len(times) == len(labels) == 8
    assert times[: 4 * ways].tolist() == [time for time in (1.0, 0.75, 0.5, 0.25) for _ in range(ways)]
    assert set(times.tolist()) <= {0.25, 0.5, 0.75, 1.0}
    for row in range(ways):  # each begins where the one before ended
        for here, there in pairwise(range(row, 4 * ways, ways)):
            torch.testing.assert_close(noisy[here] - wanted[here] / 4, noisy[there])
            assert labels[here] == labels[there]


def test_each_stage_is_taught_by_the_student_before(folder: Path) -> None:
    made = task(folder, {"method": "euler"}, stages=[4, 2])
    told = [made.step(step, step / 6)["student_steps"] for step in range(3)]
    student = {name: value.clone() for name, value in made.average.module.state_dict().items()}
    taught = {name: value.clone() for name, value in made.teacher.state_dict().items()}
    told += [made.step(step, step / 6)["student_steps"] for step in range(3, 6)]
    assert told == [4.0, 4.0, 4.0, 2.0, 2.0, 2.0] and made.since == 3
    assert all(torch.equal(value, student[name]) for name, value in made.teacher.state_dict().items())
    assert not all(torch.equal(value, taught[name]) for name, value in made.teacher.state_dict().items())
    made.export(folder)
    assert distilled_steps(folder / distill_diffusion.MODEL_FILE) == 2


@pytest.mark.parametrize("done", [2, 4])
def test_a_restored_task_goes_on_to_the_last_bit(folder: Path, done: int) -> None:
    one = task(folder, stages=[4, 2])
    for step in range(done):
        one.step(step, step / 6)
    torch.save(one.state(), folder / "state.pt")
    other = task(folder, stages=[4, 2])
    other.load_state(torch.load(folder / "state.pt"))
    left = range(done, 6)
    assert [one.step(step, step / 6) for step in left] == [other.step(step, step / 6) for step in left]
    assert torch.equal(one.grid(), other.grid()) and one.grid().shape == (3, 8, 3, 8, 8)


def test_the_file_says_what_it_is_for_and_is_a_teacher_again(folder: Path) -> None:
    made = task(folder)
    made.step(0, 0.0)
    made.export(folder)
    path = folder / distill_diffusion.MODEL_FILE
    net, classes = load_flow(path)
    assert classes == NAMES and net.shape == TINY and distilled_steps(path) == 4
    assert distilled_steps(folder / "teacher.safetensors") is None
    assert "teacher teacher.safetensors, guidance 1" in read_metadata(path)["about"]
    assert str(folder) not in read_metadata(path)["about"]
    again = content(folder, stages=[2])
    again["teacher"] |= {"model": str(path), "steps": 8}
    with pytest.raises(ModelError, match="was distilled for 4 steps; say steps: 4"):
        train("distill_diffusion", str(written(folder, again)))


def test_a_file_that_says_no_number_of_steps_is_refused(folder: Path) -> None:
    save_model(folder / "odd.safetensors", ARCHITECTURE, {}, (), {}, more={"steps": "few"})
    with pytest.raises(ModelError, match="its metadata says steps: 'few'; needed: a whole number from 1"):
        distilled_steps(folder / "odd.safetensors")


def test_references_mean_the_same_in_any_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert absolute_reference("teacher.safetensors") == str(folder / "teacher.safetensors")
    assert absolute_reference("shards/*.parquet") == str(folder / "shards/*.parquet")
    for kept in ("builtin:fashion-diffusion", "s3://bucket/model.safetensors", "organisation/name@main"):
        assert absolute_reference(kept) == kept
    assert local_model("builtin:fashion-diffusion").is_file()


def written(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize(
    ("part", "change", "error", "message"),
    [
        ("training", {"stages": [3]}, RecipeError, r"training\.stages: 3 steps cannot be taught by 8"),
        ("training", {"stages": [4, 4]}, RecipeError, r"training\.stages: 4 steps cannot be taught by 4"),
        ("training", {"stages": []}, RecipeError, r"training\.stages: Tuple should have at least 1"),
        ("training", {"stage": [4]}, RecipeError, r"unknown key 'training\.stage'; did you mean 'stages'"),
        ("teacher", {"method": "adams"}, RecipeError, r"teacher\.method"),
        ("teacher", {"model": "absent.safetensors"}, ModelError, "there is no such file"),
        ("teacher", {"model": "builtin:fashion-wgan"}, ModelError, "needed: flow-unet/1"),
        (
            "teacher",
            {"model": "builtin:fashion-diffusion"},
            InputError,
            "1 channels of 8 px, and the teacher makes 1 of",
        ),
        ("data", {"classes": ["bright", "dark", "striped"]}, InputError, "the teacher's: dark, bright, striped"),
        ("data", {"uri": "nowhere/*.parquet"}, InputError, "no file matches"),
        ("start", "builtin:fashion-diffusion", ModelError, "size_px is 28, the teacher's 8"),
    ],
)
def test_a_wrong_configuration_is_one_line(
    folder: Path, part: str, change: Any, error: type[JobError], message: str
) -> None:
    wrong = content(folder)
    wrong[part] = wrong[part] | change if isinstance(change, dict) else change
    with pytest.raises(error, match=message) as caught:
        train("distill_diffusion", str(written(folder, wrong)))
    assert "\n" not in str(caught.value)


def test_the_committed_configuration_is_valid() -> None:
    config = read_config(
        ROOT / "jobs" / "recipes" / "train_distill_diffusion.yaml", distill_diffusion.DistillationConfig
    )
    assert config.training.stages == (4,) and config.teacher.model == "builtin:fashion-diffusion"
    teacher, classes = distill_diffusion.read_model(config.teacher.model)
    assert (config.data.size_px, config.data.channels) == (teacher.shape.size_px, teacher.shape.channels)
    assert len(classes) == 10
