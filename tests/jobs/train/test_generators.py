"""`train diffusion` and `train gan`, tiny: a restored task goes on to the last bit."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from jobs.commands.train import train
from jobs.train import diffusion, gan
from jobs.train.data import labelled
from jobs.train.data.labelled import LabelledData, load_split
from jobs.train.loop import generators, harness
from jobs.train.loop.config import read_config
from pipeline.errors import InputError, RecipeError
from pipeline.networks.generators.flow_matching import load_flow
from pipeline.networks.generators.wgan import load_generator
from tests.fixtures.shard_files import pictures, write_shard
from tests.jobs.train.trainings import ROOT, images, kill, lines_told, start, wait_for_step

STEPS = 200  # enough to be killed in the middle
NAMES = ["dark", "bright", "striped"]
NETWORKS = {
    "diffusion": {"widths": [4, 8], "groups": 2, "heads": 2, "embedding": 8},
    "gan": {"latent": 4, "widths": [4, 4, 2], "critic_width": 4},
}
KINDS = [("diffusion", diffusion), ("gan", gan)]


pytestmark = pytest.mark.usefixtures("one_thread")


def content(folder: Path, kind: str, out: str, workers: int = 1, **training: Any) -> dict[str, Any]:
    budget = {"steps": STEPS, "seconds": 600, "checkpoint_seconds": 0.001, "logging_steps": 1, "grid_steps": 100}
    return {
        "out": str(folder / out),
        "threads": 1,
        "workers": workers,
        "data": {"uri": str(images(folder)), "size_px": 8, "held_out": 12, "classes": NAMES},
        "network": NETWORKS[kind],
        "training": budget | {"learning_rate": 0.001, "batch_size": 4, "warmup_steps": 2} | training,
    }


def written(folder: Path, kind: str, out: str, **settings: Any) -> Path:
    path = folder / f"{out}.yaml"
    path.write_text(yaml.safe_dump(content(folder, kind, out, **settings)))
    return path


def task(module: ModuleType, folder: Path, kind: str) -> Any:
    settings = content(folder, kind, "unused")
    return module.build({"seed": 7, "rank": 0} | settings, torch.device("cpu"))


# ---- without Ray, killed ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "module"), KINDS)
def test_a_run_killed_in_the_middle_makes_the_model_of_an_undisturbed_one(
    tmp_path: Path, kind: str, module: ModuleType
) -> None:
    undisturbed = task(module, tmp_path, kind)
    for step in range(STEPS):
        undisturbed.step(step, step / STEPS)
    undisturbed.export(tmp_path / "undisturbed")

    path, folder = written(tmp_path, kind, "killed", workers=0), tmp_path / "killed" / kind
    killed = start(kind, path)
    wait_for_step(killed, folder, 5)
    kill(killed)
    before = [line["step"] for line in lines_told(folder)]
    assert before[-1] < STEPS
    resumed = start(kind, path)
    assert resumed.wait(180) == 0, path.with_suffix(".log").read_text()

    after = [line["step"] for line in lines_told(folder)][len(before) :]
    assert 1 < after[0] <= before[-1] + 1 and after[-1] == STEPS
    assert sorted(path.name for path in folder.glob("step-*")) == [f"step-{step:08d}" for step in (STEPS - 1, STEPS)]
    model = folder / module.MODEL_FILE
    assert model.read_bytes() == (tmp_path / "undisturbed" / module.MODEL_FILE).read_bytes()


# ---- the tasks themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "module"), KINDS)
def test_a_restored_task_goes_on_to_the_last_bit(tmp_path: Path, kind: str, module: ModuleType) -> None:
    one = task(module, tmp_path, kind)
    for step in range(3):
        one.step(step, step / 6)
    held = tmp_path / "state.pt"
    torch.save(one.state(), held)
    other = task(module, tmp_path, kind)
    other.load_state(torch.load(held))
    assert [one.step(step, step / 6) for step in (3, 4)] == [other.step(step, step / 6) for step in (3, 4)]
    assert torch.equal(one.grid(), other.grid())
    assert one.grid().shape == (3, 8, 3, 8, 8)


@pytest.mark.slow
def test_flow_matching_learns_what_classes_look_like(tmp_path: Path) -> None:
    made = task(diffusion, tmp_path, "diffusion")
    made.phase = made.phase.model_copy(update={"batch_size": 16, "learning_rate": 0.01, "ema_decay": 0.9})
    found = [made.step(step, step / 150)["loss"] for step in range(150)]
    assert np.mean(found[-10:]) < 0.6 * np.mean(found[:10])
    made.export(tmp_path)
    net, classes = load_flow(tmp_path / diffusion.MODEL_FILE)
    assert classes == tuple(NAMES) and (tmp_path / generators.HISTORY / "step-00000150.safetensors").is_file()
    dark, bright, _ = made.grid().mean(dim=(1, 2, 3, 4)).tolist()
    assert dark < 0.35 and bright > 0.6
    assert net.shape.classes == 3


@pytest.mark.slow
def test_the_adversaries_move_and_the_generator_is_saved(tmp_path: Path) -> None:
    made = task(gan, tmp_path, "gan")
    made.phase = made.phase.model_copy(update={"learning_rate": 0.01, "batch_size": 16, "penalty_share": 0.5})
    for step in range(40):
        found = made.step(step, 0.0)
    assert set(found) == {"distance", "penalty", "generator"} and all(np.isfinite(list(found.values())))
    made.export(tmp_path)
    net, classes = load_generator(tmp_path / gan.MODEL_FILE)
    assert classes == tuple(NAMES) and net.shape.latent == 4
    dark, bright, _ = made.grid().mean(dim=(1, 2, 3, 4)).tolist()
    assert bright > dark + 0.2


def test_rates_rise_and_fall(tmp_path: Path) -> None:
    optimiser = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    phase = generators.GeneratorPhase(steps=10, seconds=1, learning_rate=0.5, warmup_steps=4)
    rates = []
    for step, progress in ((0, 0.0), (3, 0.0), (9, 0.5), (9, 1.0)):
        generators.set_rate(optimiser, phase, step, progress)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.125, 0.5, 0.5 * 0.505, 0.005])


def test_averaged_weights_forget_the_start_soon_and_then_follow_slowly() -> None:
    network = torch.nn.BatchNorm1d(1)
    average = harness.averaged(network, decay=0.25)
    found = []
    for value in (1.0, 2.0, 2.0, 6.0):
        torch.nn.init.constant_(network.weight, value)
        network.running_mean.fill_(-value)
        average.update_parameters(network)
        found.append((average.module.weight.item(), average.module.running_mean.item()))
    two, three = 2 + 2 / 11 * (1 - 2), 2 + 0.25 * (2 / 11 * (1 - 2))  # decays 2 / 11, then 3 / 12, and no more
    wanted = (1.0, two, three, 6 + 0.25 * (three - 6))
    assert found == [pytest.approx((one, -one)) for one in wanted]
    assert not average.module.weight.requires_grad and not average.module.training


# ---- images and configurations ---------------------------------------------------------------------------------------


def test_the_same_images_are_held_out_each_time_and_never_trained_on(tmp_path: Path) -> None:
    data = LabelledData(uri=str(images(tmp_path)), size_px=8, held_out=12, classes=tuple(NAMES))
    one, again = load_split(data), load_split(data)
    assert len(one.train.labels) == 48 and len(one.held_out.labels) == 12
    assert torch.equal(one.held_out.pixels, again.held_out.pixels)
    both = torch.cat([one.train.pixels, one.held_out.pixels]).flatten(1)
    assert len(both.unique(dim=0)) == 60
    floats, labels = labelled.take(one.train, np.array([5, 0]), torch.device("cpu"))
    assert floats.shape == (2, 1, 8, 8) and floats.min() >= -1 and floats.max() <= 1
    assert labels.tolist() == one.train.labels[[5, 0]].tolist()


def test_class_names_are_read_from_a_shard_and_channels_are_changed() -> None:
    uri = str(ROOT / "pipeline" / "assets" / "fashion-mnist" / "*.parquet")
    split = load_split(LabelledData(uri=uri, held_out=20, limit=100))
    assert split.classes[:2] == ("T-shirt/top", "Trouser") and split.train.pixels.shape == (80, 1, 28, 28)
    assert load_split(LabelledData(uri=uri, held_out=0, limit=10, channels=3)).train.pixels.shape == (10, 3, 28, 28)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": 60}, "60 of them, and held_out: 60 leaves none"),
        ({"size_px": 28}, "have 8 px; say size_px: 8"),
        ({"classes": ("a", "b")}, "labels up to 2, but 2 class names"),
    ],
)
def test_images_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    settings = {"uri": str(images(tmp_path)), "size_px": 8, "held_out": 12, "classes": NAMES} | change
    with pytest.raises(InputError, match=message):
        load_split(LabelledData(**settings))


@pytest.mark.parametrize("kind", ["diffusion", "gan"])
def test_a_wrong_configuration_is_one_line(tmp_path: Path, kind: str) -> None:
    wrong = content(tmp_path, kind, "wrong")
    wrong["training"]["learning_rte"] = wrong["training"].pop("learning_rate")
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(wrong))
    with pytest.raises(RecipeError, match=r"'training\.learning_rte'; did you mean 'learning_rate'") as caught:
        train(kind, str(path))
    assert "\n" not in str(caught.value)
    uneven = content(tmp_path, kind, "uneven")
    uneven["data"]["size_px"] = 9
    path.write_text(yaml.safe_dump(uneven))
    with pytest.raises(RecipeError, match="9 px"):
        train(kind, str(path))


def test_the_committed_configurations_are_valid() -> None:
    recipes = ROOT / "jobs" / "recipes"
    assert read_config(recipes / "train_diffusion.yaml", diffusion.DiffusionConfig).data.held_out == 5000
    assert read_config(recipes / "train_gan.yaml", gan.GanConfig).training.critic_steps == 5


def test_labels_that_are_text_are_classes_and_metadata_names_numbers(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", pictures(4, 8, 8, 1), labels=["owl", "cat", None, "owl"])
    told: dict[str, Any] = {"uri": str(tmp_path / "*.parquet"), "size_px": 8, "held_out": 0}
    split = load_split(LabelledData(**told))
    assert split.classes == ("cat", "owl") and sorted(split.train.labels.tolist()) == [-1, 0, 1, 1]
    other = load_split(LabelledData(**told, classes=("owl", "cat", "dog")))
    assert other.classes == ("owl", "cat", "dog") and sorted(other.train.labels.tolist()) == [-1, 0, 0, 1]
    with pytest.raises(InputError, match="label 'owl' is no class; known: cat, dog"):
        load_split(LabelledData(**told, classes=("cat", "dog")))
    write_shard(tmp_path / "a.parquet", pictures(2, 8, 8, 1), labels=[1, 0])
    table = pq.read_table(tmp_path / "a.parquet").replace_schema_metadata({"id2label": '{"0": "cat", "1": "owl"}'})
    pq.write_table(table, tmp_path / "a.parquet")
    assert load_split(LabelledData(**told)).classes == ("cat", "owl")
