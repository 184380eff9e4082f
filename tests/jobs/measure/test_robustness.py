"""The measure of robustness: corruptions as published, arms paired by seed, chosen on validation, tested once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.measure import robustness
from jobs.measure.arms import Arm, controls, train_classifier, treatment
from jobs.measure.copies import Copies
from jobs.measure.corruptions import CORRUPTIONS, FAMILIES, corrupted
from jobs.measure.paired import Record, chosen, corrupted_mean, differences, interval, student_quantile
from pipeline.errors import RecipeError
from pipeline.model_files.references import ASSETS
from tests.operators.style.test_adain_style import networks

REAL = str(ASSETS / "fashion-mnist" / "*.parquet")
TINY = (
    "--images 40 --copies 2 --steps 3 --validation-images 30 --test-images 40 --corrupted-images 20 --severities 5 "
    "--size-px 28 --seeds 2"
)


def photographs() -> np.ndarray:
    """[8, 32, 32, 3] uint8: smooth, away from black and white, so that little is clamped."""
    coarse = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    smooth = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_a_corruption_repeats_and_grows_with_its_severity(name: str) -> None:
    images = photographs()
    distances = []
    for severity in range(1, 6):
        made = corrupted(images, name, severity, [3])
        assert made.shape == images.shape and made.dtype == np.uint8
        assert np.array_equal(made, corrupted(images, name, severity, [3]))
        distances.append(float(np.square(made.astype(float) - images).mean()))
    assert distances[0] > 0
    assert distances == sorted(distances) and distances[-1] > distances[0]
    assert corrupted(images[..., :1], name, 5, [3]).shape == (8, 32, 32, 1)


def test_corruptions_have_the_published_sizes() -> None:
    grey = np.full((16, 32, 32, 3), 128, np.uint8)
    noise = corrupted(grey, "gaussian_noise", 5, [0]) / 255
    assert noise.std() == pytest.approx(0.10, rel=0.02)
    shot = corrupted(grey, "shot_noise", 5, [0]) / 255
    assert shot.std() == pytest.approx((128 / 255 / 50) ** 0.5, rel=0.02)
    struck = corrupted(grey, "impulse_noise", 5, [0])
    assert np.mean(struck != 128) == pytest.approx(0.07, abs=0.005)
    assert set(np.unique(struck)) == {0, 128, 255}
    point = np.zeros((1, 31, 31, 1), np.uint8)
    point[0, 15, 15] = 255
    blurred = corrupted(point, "gaussian_blur", 5, [0])[0, :, :, 0] / 255
    assert blurred[15, 15] == pytest.approx(1 / (2 * np.pi), abs=0.005)  # a Gaussian of deviation 1, at its middle
    assert blurred[15, 16] / blurred[15, 15] == pytest.approx(np.exp(-0.5), abs=0.02)
    images = photographs().astype(float)
    means = images.mean(axis=(1, 2), keepdims=True)
    wanted = (images - means) * 0.15 + means
    assert np.abs(corrupted(photographs(), "contrast", 5, [0]) - wanted).max() <= 0.51


def test_other_seeds_draw_other_noise() -> None:
    images = photographs()
    assert not np.array_equal(corrupted(images, "shot_noise", 3, [1]), corrupted(images, "shot_noise", 3, [2]))


def accuracies(value: float, clean: float | None = None) -> dict[str, float]:
    return {"clean": value if clean is None else clean, **{f"{name}/5": value for name in CORRUPTIONS}}


def test_the_best_arm_is_chosen_on_validation_images() -> None:
    records = [
        Record("a", 0, accuracies(60, clean=99), accuracies(90)),
        Record("b", 0, accuracies(70, clean=50), accuracies(10)),
        Record("a", 1, accuracies(64, clean=99), accuracies(90)),
        Record("b", 1, accuracies(63, clean=50), accuracies(10)),
    ]
    assert chosen(records, ["a", "b"]) == "b"


def test_families_weigh_alike() -> None:
    one = {"gaussian_noise/1": 10.0, "gaussian_noise/5": 30.0, "shot_noise/5": 40.0, "contrast/5": 90.0}
    assert corrupted_mean(one) == pytest.approx((30 + 90) / 2)


def test_differences_are_taken_seed_by_seed() -> None:
    """Seeds differ by tens of points, arms by one: only pairing makes the interval narrow."""
    gains = {0: 0.9, 1: 1.1, 2: 1.0}
    mine = [Record("style", seed, {}, accuracies(50 + 20 * seed + gains[seed])) for seed in (2, 0, 1)]
    theirs = [Record("none", seed, {}, accuracies(50 + 20 * seed)) for seed in (0, 1, 2)]
    found = interval(differences(mine + theirs, "style", "none", "corrupted"))
    assert found.mean == pytest.approx(1.0)
    assert found.high - found.mean == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-3)
    with pytest.raises(ValueError, match="cannot be paired"):
        differences(mine[:2] + theirs, "style", "none", "corrupted")


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (9, 2.2622), (29, 2.0452)])
def test_students_quantile(freedom: int, quantile: float) -> None:
    assert student_quantile(freedom) == pytest.approx(quantile, abs=1e-3)


def test_copies_differ_repeat_and_are_kept(tmp_path: Path) -> None:
    pixels = torch.from_numpy(photographs()).permute(0, 3, 1, 2).contiguous()
    styled = [{"adain_style": {"alpha_range": [0.5, 1.0]}}]
    copies = Copies(pixels, 2, tmp_path)
    made = copies.of(styled)
    assert made.shape == (2, *pixels.shape) and not torch.equal(made[0], made[1])
    both = copies.of([*styled, {"flip": {"probability": 1}}])
    assert torch.equal(both, made.flip(-1))
    again = Copies(pixels, 2, tmp_path)
    assert torch.equal(again.of(styled), made)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    assert torch.equal(copies.of([]), pixels[None])
    fitted = copies.of(
        [{"style_randomization": {"styles": "builtin:styles", "rank": 2}}]
    )  # fitted by `prepare` in runs
    assert fitted.shape == made.shape and not torch.equal(fitted, made)
    with pytest.raises(RecipeError, match="adain_style"):
        copies.of([{"adain_stile": {}}])


def test_copies_are_known_by_the_content_of_every_model_on_the_way(tmp_path: Path) -> None:
    copies = Copies(torch.from_numpy(photographs()).permute(0, 3, 1, 2), 2, tmp_path / "copies")
    networks(tmp_path)
    model = tmp_path / "adain.safetensors"
    chain: list[dict[str, Any]] = [{"adain_style": {"model": str(model)}}, {"flip": {}}]
    before = copies.key_of(chain)
    assert before == copies.key_of(chain) != copies.key_of(chain[:1])
    weights = load_file(model)
    save_file({name: value + 1 for name, value in weights.items()}, model)
    assert copies.key_of(chain) != before


def test_a_share_of_every_batch_is_replaced(tmp_path: Path) -> None:
    """Half of each batch inverted: the weights are neither those of real images alone nor of inverted ones alone."""
    pixels = torch.from_numpy(photographs()).permute(0, 3, 1, 2).contiguous()
    copies, labels = Copies(pixels, 2, tmp_path), torch.arange(8)
    flip = ({"flip": {"probability": 1}},)
    shares = [((1.0, ()),), ((0.5, flip), (0.5, ())), ((1.0, flip),), ((0.0, flip), (1.0, ()))]
    weights = [train_classifier(Arm("x", parts), copies, labels, 8, 0, 2)[0].weight.detach() for parts in shares]
    assert torch.equal(weights[0], weights[3])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_a_treatment_goes_before_the_best_control() -> None:
    best = next(arm for arm in controls() if arm.name == "aug_mix")
    spec: dict[str, Any] = {"name": "s", "share": 0.25, "operators": [{"flip": {}}]}
    mix = {"classical": {"policy": "aug_mix"}}
    assert treatment(spec, best).parts == ((0.25, ({"flip": {}},)), (0.75, ()))
    assert treatment(spec | {"with_best_control": True}, best).parts == ((0.25, ({"flip": {}}, mix)), (0.75, (mix,)))
    with pytest.raises(RecipeError, match="share"):
        treatment(spec | {"share": 1.5}, best)
    with pytest.raises(RecipeError, match="needs the keys"):
        treatment({"name": "s"}, best)


@pytest.mark.slow
def test_a_run_pairs_chooses_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"name": "nothing", "share": 0, "operators": [{"flip": {}}]}
    flipped = {"name": "flipped", "share": 1, "operators": [{"flip": {"probability": 1}}]}
    call = ["--data", REAL, "--work", str(tmp_path), "--treatments", json.dumps([nothing, flipped]), *TINY.split()]
    assert robustness.main(call) == 0
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    rows = [json.loads(line)["record"] for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    by_arm = {(row["arm"], row["seed"]): row for row in rows}
    for seed in (0, 1):  # a share of nothing changes nothing: same weights, rows and steps
        for part in ("validation", "test"):
            assert by_arm["nothing", seed][part] == by_arm["none", seed][part]
            assert by_arm["flipped", seed][part] != by_arm["none", seed][part]
    assert by_arm["none", 0]["validation"] != by_arm["none", 1]["validation"]
    names = [arm.name for arm in controls()]
    validation = found["validation"]
    assert validation[found["best_control"]]["corrupted"] == max(validation[name]["corrupted"] for name in names)
    assert found["best_treatment"] in ("nothing", "flipped")
    style, control = found["best_treatment"], found["best_control"]
    gap = found["test"][style]["clean"] - found["test"][control]["clean"]
    assert found["against"][control]["clean"]["mean"] == pytest.approx(gap, abs=0.02)
    assert f"| {style} − {control} |" in out and out.count("**") == 4
    assert all(set(one) == {"clean", "corrupted", *FAMILIES} for one in found["against"].values())
    assert next(iter(found["against"])) == control and set(found["against"]) == set(names)

    before = (tmp_path / "records.jsonl").read_bytes()
    assert robustness.main(call) == 0
    assert (tmp_path / "records.jsonl").read_bytes() == before
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == found


def test_a_pilot_never_looks_at_the_test_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    treatments = json.dumps([{"name": "flipped", "share": 1, "operators": [{"flip": {}}]}])
    call = ["--data", REAL, "--work", str(tmp_path), "--treatments", treatments, "--pilot", *TINY.split()]
    assert robustness.main(call) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "test" not in found and "against" not in found
    rows = [json.loads(line)["record"] for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert rows and all(row["test"] == {} and row["validation"] for row in rows)


def test_too_few_images_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["--data", REAL, "--work", str(tmp_path), *TINY.split(), "--images", "5000"]
    assert robustness.main(call) == 2
    assert "are left to train on, not 5000" in capsys.readouterr().err
