"""`train fast_style`, tiny: the losses fall, a restored task goes on to the last bit, wrong input is one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from jobs.commands.train import train
from jobs.train import fast_style
from jobs.train.data import textures
from jobs.train.fast_style import FastStyleConfig, FastStyleTask, start_network
from jobs.train.loop import harness
from jobs.train.loop.config import read_config
from jobs.train.objectives import perceptual
from pipeline.errors import InputError, JobError, ModelError, RecipeError
from pipeline.model_files import model_file
from pipeline.model_files.references import resolve_images
from pipeline.networks.style import fast_style_network
from tests.fixtures.vgg_files import write_vgg
from tests.jobs.train.trainings import ROOT, lines_told, start

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 4
LOSSES = {"content", "style", "variation"}


def styles(folder: Path, *names: str) -> Path:
    """A folder of style images: weaves, another one for each name."""
    (folder / "styles").mkdir(exist_ok=True)
    for seed, name in enumerate(names or ("weave.png",)):
        Image.fromarray(textures.draw("weave", seed, 40)).save(folder / "styles" / name)
    return folder / "styles"


def content(folder: Path, **changes: Any) -> dict[str, Any]:
    """A run of seconds: 12 drawn textures of 24 px, networks a few channels wide."""
    source = {"name": "drawn", "uri": "textures", "limit": 12, "size_px": 24, "content_share": 1}
    budget = {"steps": STEPS, "seconds": 600, "checkpoint_seconds": 0.001, "logging_steps": 1, "grid_steps": 2}
    return {
        "out": str(folder / "out"),
        "styles": str(styles(folder)),
        "style_size_px": 24,
        "threads": 1,
        "sources": [source | {"content_crops_px": [18, 24]}],
        "network": {"widths": [6, 6, 8], "blocks": 1},
        "loss": {"width": 6},
        "training": budget | {"learning_rate": 0.01, "batch_px": 2304, "ema_decay": 0.9},
    } | changes


def written(folder: Path, wanted: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(wanted))
    return path


def task(folder: Path, **changes: Any) -> FastStyleTask:
    wanted = content(folder, **changes)
    (reference,) = resolve_images(wanted["styles"], ".")
    style = {"reference": reference.reference, "uri": reference.uri, "sha256": reference.sha256}
    defaults = FastStyleConfig(**wanted).model_dump()
    return fast_style.build(defaults | {"rank": 0, "style": style}, torch.device("cpu"))


# ---- the task --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_losses_fall_and_the_model_loads_where_it_is_used(tmp_path: Path) -> None:
    made = task(tmp_path)
    before = made.average.module.deconv3.conv2d.weight.clone()
    found = [made.step(step, step / 100) for step in range(100)]
    assert all(set(losses) == LOSSES for losses in found)
    total = [one["content"] + 10 * one["style"] + one["variation"] for one in found]
    assert np.mean(total[-10:]) < 0.75 * np.mean(total[:10])
    assert np.mean([one["style"] for one in found[-10:]]) < 0.75 * np.mean([one["style"] for one in found[:10]])
    made.export(tmp_path)
    path = tmp_path / fast_style.MODEL_FILE
    network = fast_style_network.load_network(path)
    assert (network.deconv3.conv2d.weight - before).abs().max() > 0.01
    for name, value in made.average.module.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    assert model_file.read_metadata(path)["about"] == "palimpsest train fast_style, weave.png, seed 7, 100 steps"


def test_the_sheet_shows_the_style_the_contents_and_what_they_became(tmp_path: Path) -> None:
    made = task(tmp_path)
    grid = made.grid()
    assert grid is not None and grid.shape == (2, 8, 3, 128, 128)
    assert torch.equal(grid[0, 0], grid[1, 0]) and not torch.equal(grid[0, 1], grid[0, 2])
    wanted = fast_style_network.stylise(made.average.module, grid[0, 1:], torch.ones(7))
    torch.testing.assert_close(grid[1, 1:], wanted, atol=1e-4, rtol=1e-4)


def test_a_restored_task_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    one = task(tmp_path)
    for step in range(3):
        one.step(step, step / 6)
    torch.save(one.state(), tmp_path / "state.pt")
    other = task(tmp_path)
    other.load_state(torch.load(tmp_path / "state.pt"))
    assert [one.step(step, step / 6) for step in (3, 4)] == [other.step(step, step / 6) for step in (3, 4)]
    assert torch.equal(one.grid(), other.grid())
    assert other.done == 5


def test_losses_are_those_of_the_paper_on_the_tasks_own_levels(tmp_path: Path) -> None:
    made = task(tmp_path)
    crops = made._content(np.random.default_rng(0))
    with torch.no_grad():
        found = made._losses(crops)
        with harness.autocast(made.device):  # as the task: half precision where the processor has it
            images = made.network(crops * 255)[:, :, : crops.shape[2], : crops.shape[3]] / 255
            levels, wanted = ([level.float() for level in made.levels(each)] for each in (images, crops))
        images, style = images.float(), made.levels(made.style)
    torch.testing.assert_close(found["content"], (levels[1] - wanted[1]).square().mean())
    total = torch.zeros(())
    for level, styled in zip(levels, style, strict=True):
        grams = [torch.einsum("nchw,ndhw->ncd", one, one) / one[0].numel() for one in (level, styled)]
        total = total + (grams[0] - grams[1]).square().sum(dim=(1, 2)).mean()
    torch.testing.assert_close(found["style"], total)
    rows, columns = images.diff(dim=2), images.diff(dim=3)
    torch.testing.assert_close(found["variation"], rows.square().mean() + columns.square().mean())


@pytest.mark.parametrize("family", ["vgg16", "vgg19"])
def test_a_vgg_takes_the_place_of_the_drawn_encoder(tmp_path: Path, family: str) -> None:
    path = write_vgg(tmp_path / f"{family}.pth", family)
    made = task(tmp_path, loss={"vgg": str(path)})
    shapes = [tuple(level.shape[1:]) for level in made.levels(torch.rand(1, 3, 32, 40))]
    assert shapes == [(4, 32, 40), (6, 16, 20), (8, 8, 10), (8, 4, 5)]
    assert set(made.step(0, 0.0)) == LOSSES


def test_the_drawn_encoder_is_normalised_and_of_its_seed_alone(tmp_path: Path) -> None:
    batches = [torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))]
    one, again, other = (perceptual.encoder_levels(6, seed, batches, torch.device("cpu")) for seed in (1, 1, 2))
    levels = one(batches[0])
    assert [level.shape[1] for level in levels] == [6, 12, 24, 48]
    for level, same in zip(levels, again(batches[0]), strict=True):
        means = level.mean(dim=(0, 2, 3))
        torch.testing.assert_close(means[means > 1e-3], torch.ones_like(means[means > 1e-3]), atol=1e-3, rtol=1e-3)
        assert torch.equal(level, same)
    assert not torch.equal(levels[-1], other(batches[0])[-1])


def test_the_first_network_is_of_its_seed_and_shows_the_contents() -> None:
    state = torch.get_rng_state()
    one, again, other = (start_network((8, 8, 8), 1, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.conv1.conv2d.weight, again.conv1.conv2d.weight)
    assert not torch.equal(one.conv1.conv2d.weight, other.conv1.conv2d.weight)
    coarse = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).repeat_interleave(8, 2)
    contents = 255 * coarse.repeat_interleave(8, 3)
    with torch.no_grad():
        made = one(contents)
    assert 60 < made.mean() < 200 and 10 < made.std() < 150
    for before, after in zip(contents.flatten(0, 1), made.flatten(0, 1), strict=True):
        assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.7


# ---- a whole run -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_trains_one_network_a_style(tmp_path: Path) -> None:
    folder = styles(tmp_path, "weave.png", "more weave.png")
    path = written(tmp_path, content(tmp_path, styles=str(folder), workers=0))
    assert start("fast_style", path).wait(300) == 0, path.with_suffix(".log").read_text()
    made = {}
    for name in ("weave", "more-weave"):
        run = tmp_path / "out" / name
        assert [line["step"] for line in lines_told(run)] == list(range(1, STEPS + 1))
        with Image.open(run / "grids" / f"step-{STEPS:08d}.png") as sheet:
            assert sheet.size == (8 * 128, 2 * 128)
        made[name] = fast_style_network.load_network(run / fast_style.MODEL_FILE)
    one, other = (network.deconv3.conv2d.weight for network in made.values())
    assert one.shape == (3, 6, 9, 9) and not torch.equal(one, other)


# ---- what is refused -------------------------------------------------------------------------------------------------


def no_styles(folder: Path) -> dict[str, Any]:
    (folder / "empty").mkdir()
    return {"styles": str(folder / "empty")}


def no_picture(folder: Path) -> dict[str, Any]:
    (folder / "text.png").write_text("hello")
    return {"styles": str(folder / "text.png")}


def sliver(folder: Path) -> dict[str, Any]:
    Image.fromarray(np.zeros((2, 90, 3), np.uint8)).save(folder / "sliver.png")
    return {"styles": str(folder / "sliver.png")}


def twins(folder: Path) -> dict[str, Any]:
    return {"styles": str(styles(folder, "a.png", "a.jpg"))}


def other_network(folder: Path) -> dict[str, Any]:
    torch.save({"weight": torch.zeros(3)}, folder / "other.pth")
    return {"loss": {"vgg": str(folder / "other.pth")}}


def no_content(folder: Path) -> dict[str, Any]:
    return {"sources": [content(folder)["sources"][0] | {"uri": str(folder / "none-*.parquet")}]}


def no_share(folder: Path) -> dict[str, Any]:
    return {"sources": [content(folder)["sources"][0] | {"content_share": 0}]}


def small_crops(folder: Path) -> dict[str, Any]:
    return {"sources": [content(folder)["sources"][0] | {"content_crops_px": [12]}]}


def wrong_key(folder: Path) -> dict[str, Any]:
    return {"loss": {"style_wieght": 3}}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (no_styles, InputError, "no image file there"),
        (no_picture, JobError, r"train fast_style: styles: .*text\.png: not usable as a style"),
        (sliver, JobError, "90 x 2 px is too narrow for a style"),
        (twins, InputError, "names stand for several images, as 'a'"),
        (other_network, ModelError, r"other\.pth: not a vgg19 .*: features\.0\.weight is missing"),
        (no_content, InputError, "no file matches"),
        (no_share, RecipeError, "sources: .*no source has a content_share above 0"),
        (small_crops, RecipeError, "sources: .*content_crops_px needs sizes of 16 px or more"),
        (wrong_key, RecipeError, "unknown key 'loss.style_wieght'; did you mean 'style_weight'"),
    ],
)
def test_wrong_input_is_one_line_before_anything_starts(
    tmp_path: Path, change: Any, kind: type[Exception], message: str
) -> None:
    path = written(tmp_path, content(tmp_path) | change(tmp_path))
    with pytest.raises(kind, match=message) as caught:
        train("fast_style", str(path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_style_of_one_colour_and_of_one_pixel_can_be_learnt_from(tmp_path: Path) -> None:
    for size in (1, 30):
        Image.fromarray(np.full((size, size, 3), 90, np.uint8)).save(tmp_path / "flat.png")
        found = task(tmp_path, styles=str(tmp_path / "flat.png")).step(0, 0.0)
        assert all(np.isfinite(list(found.values())))


def test_the_committed_configuration_is_valid() -> None:
    config = read_config(ROOT / "jobs" / "recipes" / "train_fast_style.yaml", FastStyleConfig)
    assert config.network.widths == (16, 32, 64) and config.loss.vgg is None
