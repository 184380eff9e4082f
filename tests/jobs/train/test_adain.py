"""`train adain` on a local Ray: killed in the middle, it goes on as if nothing had happened."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from jobs.cli import main
from jobs.commands.train import train
from jobs.train.adain import AdainConfig
from jobs.train.data import textures
from jobs.train.data.images import ImageSet, draw_textures, load_images, random_crops
from jobs.train.data.labelled import LabelledData
from jobs.train.data.references import absolute_reference
from jobs.train.data.sources import TEXTURES, Source
from jobs.train.loop import checkpoints, on_ray
from jobs.train.loop.config import read_config
from jobs.train.networks.adain_encoder import normalise_activations, pass_through_encoder
from jobs.train.networks.least_squares_decoder import solve_decoder
from pipeline.errors import InputError, JobError, RecipeError
from pipeline.networks.style import adain
from tests.cluster.processes import descendants, listening
from tests.jobs.train.trainings import ROOT, kill, lines_told, start, wait_for_step

DECODER_STEPS = 12


def config(folder: Path, out: str, workers: int = 1) -> Path:
    """A run of seconds: width 6, a few drawn images of 32 px, named from where `start` calls; a checkpoint a step."""
    pictures = folder / "pictures"
    for number in range(8):
        (pictures / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(textures.draw("clouds", number, 32)).save(pictures / str(number % 2) / f"{number}.png")
    phase = {"seconds": 600, "learning_rate": 0.001, "checkpoint_seconds": 0.001, "logging_steps": 1, "grid_steps": 6}
    source = {
        "size_px": 32,
        "content_share": 1,
        "content_crops_px": [28, 32],
    }
    content = {
        "out": str(folder / out),
        "width": 6,
        "threads": 1,
        "workers": workers,
        "sources": [
            {"name": "pictures", "uri": os.path.relpath(pictures, ROOT), "style_share": 1} | source,
            {"name": "drawn", "uri": "textures", "limit": 12, "style_share": 1} | source,
        ],
        "decoder": phase | {"steps": DECODER_STEPS, "batch_px": 4096, "style_sizes_px": [32]},
    }
    path = folder / f"{out}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def by_step(lines: list[dict[str, float]]) -> dict[int, tuple[float, ...]]:
    return {int(line["step"]): (line["content"], line["style"], line["pixel"]) for line in lines}


@pytest.mark.slow
def test_a_run_killed_in_the_middle_makes_the_losses_of_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = start("adain", config(tmp_path, "undisturbed", workers=0))  # and with Ray those of one without
    disturbed_path = config(tmp_path, "disturbed")
    assert undisturbed.wait(180) == 0, (tmp_path / "undisturbed.log").read_text()

    killed = start("adain", disturbed_path)
    folder = tmp_path / "disturbed" / "decoder"
    wait_for_step(killed, folder, 4)
    assert {host for host, _ in listening({killed.pid, *descendants(killed.pid)})} == {"127.0.0.1"}
    kill(killed)
    before = lines_told(folder)
    resumed = start("adain", disturbed_path)
    assert resumed.wait(180) == 0, (tmp_path / "disturbed.log").read_text()

    after = lines_told(folder)[len(before) :]
    first = int(after[0]["step"])
    assert 1 < first <= int(before[-1]["step"]) + 1
    assert first < DECODER_STEPS
    wanted = by_step(lines_told(tmp_path / "undisturbed" / "decoder"))
    assert by_step(after) == {step: wanted[step] for step in range(first, DECODER_STEPS + 1)}

    grid = tmp_path / "undisturbed" / "decoder" / "grids" / f"step-{DECODER_STEPS:08d}.png"
    with Image.open(grid) as image:
        assert image.size == (9 * 128, 7 * 128)
    model = tmp_path / "undisturbed" / "decoder" / "adain.safetensors"
    assert model.read_bytes() == (tmp_path / "disturbed" / "decoder" / "adain.safetensors").read_bytes()
    assert adain.load_decoder(model)[15].weight.shape == (3, 6, 3, 3)


def test_ctrl_c_is_left_to_whom_it_went_before() -> None:
    from ray.train.torch import TorchTrainer

    own = "_register_sigint_handler"
    assert callable(getattr(TorchTrainer, own)), "Ray Train takes Ctrl-C elsewhere now"
    before = signal.getsignal(signal.SIGINT)
    getattr(on_ray._Trainer, own)(None, None)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_wrong_key_names_the_nearest_and_ends_with_exit_2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, "wrong")
    content = yaml.safe_load(path.read_text())
    content["decoder"]["learning_rte"] = content["decoder"].pop("learning_rate")
    path.write_text(yaml.safe_dump(content))
    assert main(["train", "adain", str(path)]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "'decoder.learning_rte'; did you mean 'learning_rate'?" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources: [", "not YAML"),
        ("out: x", "sources: Field required"),
        ("[1]", "top level"),
    ],
)
def test_a_wrong_config_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_config(path, AdainConfig)
    assert "\n" not in str(caught.value)


def test_a_config_that_is_not_utf_8_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"out: caf\xe9\n")
    with pytest.raises(RecipeError, match=r"config\.yaml: cannot be read: it is not UTF-8 text"):
        read_config(path, AdainConfig)


def test_the_committed_config_is_valid() -> None:
    assert read_config(ROOT / "jobs" / "recipes" / "train_adain.yaml", AdainConfig).width == 32


def test_paths_hold_wherever_a_worker_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "styles").mkdir()
    assert absolute_reference("styles") == str(tmp_path / "styles") and absolute_reference("*.parquet") == str(
        tmp_path / "*.parquet"
    )
    assert [absolute_reference(name) for name in ("builtin:x", "s3://b/k", "org/name")] == [
        "builtin:x",
        "s3://b/k",
        "org/name",
    ]
    for uri, wanted in (("styles", str(tmp_path / "styles")), (TEXTURES, TEXTURES)):
        assert Source(name="a", uri=uri, size_px=8).uri == wanted
    assert LabelledData(uri="styles").uri == str(tmp_path / "styles")


def test_a_source_without_images_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    path = config(tmp_path, "run")
    path.write_text(path.read_text().replace("pictures\n", "nowhere\n"))
    with pytest.raises(InputError, match="nowhere': no file matches"):
        train("adain", path)
    assert not (tmp_path / "run").exists()


def test_unknown_kinds_and_empty_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="'adian' is not known; known: adain"):
        train("adian", "x.yaml")
    with pytest.raises(InputError, match="no file matches"):
        load_images(str(tmp_path / "*.parquet"), 32)
    with pytest.raises(InputError, match="no image file"):
        load_images(str(tmp_path), 32)


def test_a_broken_snapshot_or_checkpoint_is_passed_over(tmp_path: Path) -> None:
    snapshot = tmp_path / "checkpoint_manager_snapshot.json"
    snapshot.write_text('{"checkpoint_results": [')
    on_ray.mend_snapshot(tmp_path)
    assert not snapshot.exists()
    (tmp_path / "step-00000002").mkdir()
    (tmp_path / "step-00000002" / checkpoints.STATE_FILE).write_bytes(b"cut")
    snapshot.write_text(json.dumps({"checkpoint_results": [{"checkpoint_dir_name": "step-00000002"}]}))
    on_ray.mend_snapshot(tmp_path)
    assert not snapshot.exists()


def test_the_encoder_passes_the_picture_through() -> None:
    encoder = pass_through_encoder(8, 3, seed=0)
    images = draw_textures(6, 32, seed=0).take(np.arange(6))
    with torch.no_grad():
        first = adain.encode_levels(encoder, images)[0]
    torch.testing.assert_close(first[:, :3].clamp(0, 1), images, atol=0.35, rtol=0)
    again = pass_through_encoder(8, 3, seed=0)
    assert all(torch.equal(one, two) for one, two in zip(encoder.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="width 5"):
        pass_through_encoder(5, 3, seed=0)


def test_normalising_makes_mean_activations_one_and_changes_scales_alone() -> None:
    encoder = pass_through_encoder(8, 4, seed=0)
    batches = [torch.rand(4, 3, 32, 32), torch.rand(2, 3, 24, 24)]
    before = encoder(batches[0])
    normalise_activations(encoder, batches)
    after = encoder(batches[0])
    total = sum(encoder(batch).mean(dim=(2, 3)).sum(dim=0) for batch in batches) / 6
    alive = before.flatten(2).amax(dim=(0, 2)) > 1e-2
    torch.testing.assert_close(total[alive], torch.ones_like(total)[alive], atol=1e-3, rtol=1e-3)
    scale = after.sum(dim=(0, 2, 3)) / before.sum(dim=(0, 2, 3)).clamp_min(1e-9)
    torch.testing.assert_close(after[:, alive], (before * scale.view(1, -1, 1, 1))[:, alive], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("levels", [3, 4])
def test_the_solved_decoder_gives_the_picture_back_at_once(levels: int) -> None:
    batches = [draw_textures(48, 32, seed).take(np.arange(48)) for seed in (0, 1)]
    encoder = pass_through_encoder(8, levels, seed=0)
    normalise_activations(encoder, batches)
    unseen = draw_textures(24, 32, seed=2).take(np.arange(24))
    with torch.no_grad():
        made = solve_decoder(encoder, batches, positions=4000)(encoder(unseen))
    assert made.shape == unseen.shape
    one_colour = (unseen - unseen.mean(dim=(0, 2, 3), keepdim=True)).square().mean()
    assert (made - unseen).square().mean() < 0.6 * one_colour


def test_textures_are_functions_of_their_seed_and_families_differ() -> None:
    for family in textures.FAMILIES:
        one, again, other = (textures.draw(family, seed, 48) for seed in (1, 1, 2))
        assert one.shape == (48, 48, 3)
        assert one.dtype == np.uint8
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)
    drawn = draw_textures(13, 16, seed=0)
    assert drawn.labels.tolist() == [*range(12), 0]


def test_crops_are_functions_of_the_generator_and_full_scale_is_the_image_itself() -> None:
    held = ImageSet(torch.randint(0, 256, (3, 1, 20, 20), dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    taken = held.take(np.array([2, 0]))
    assert taken.shape == (2, 3, 20, 20)
    whole = random_crops(taken, 20, np.random.default_rng(0), (1.0, 1.0), flip=False)
    torch.testing.assert_close(whole, taken, atol=1e-5, rtol=1e-5)
    crops = [random_crops(taken, 12, np.random.default_rng(5), (0.5, 0.9)) for _ in range(2)]
    assert torch.equal(crops[0], crops[1])
