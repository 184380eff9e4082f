"""StyleRandomization: real networks made tiny, a distribution fitted to real image files, and the shipped one."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from jobs.assets.adain_styles import fitted, styles
from palimpsest.testing.operators import OperatorConformance, act, assert_near, make_batch
from pipeline.audit.replay import replay_sample
from pipeline.audit.verify import verify_dataset
from pipeline.contracts import Assets
from pipeline.errors import ConflictError, InputError, JobError, ModelError, RecipeError
from pipeline.model_files.references import ASSETS
from pipeline.networks.style import adain
from pipeline.networks.style.style_distribution import (
    StyleDistribution,
    encoder_sha256,
    fit_distribution,
    read_distribution,
)
from pipeline.operators.style.style_randomization import StyleRandomization, StyleRandomizationParams
from pipeline.shards.output.store import open_store
from pipeline.validation import parse
from tests.fixtures.commit_logs import forget
from tests.fixtures.data_sets import contents, plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.reference_images import no_image, reference, style
from tests.fixtures.shard_files import photos
from tests.operators.style.test_adain_style import networks

pytestmark = pytest.mark.usefixtures("one_thread")
SHIPPED = ASSETS / "models" / "adain.safetensors"
DISTRIBUTION = ASSETS / "models" / "adain-styles.safetensors"


def assets_in(folder: Path) -> Assets:
    networks(folder)
    model = {"model": folder / "adain.safetensors"}
    reference_set = [style(index) for index in range(6)]
    params = StyleRandomizationParams(styles="paintings/", style_size_px=32, rank=4)
    data = StyleRandomization(params).fit(Assets(model, {"styles": reference_set}))
    (folder / "distribution.safetensors").write_bytes(data)
    return Assets({**model, "distribution": folder / "distribution.safetensors"}, fitted=data)


def loaded(folder: Path, **params: Any) -> StyleRandomization:
    operator = StyleRandomization(StyleRandomizationParams(**params))
    operator.load("cpu", assets_in(folder))
    return operator


class TestStyleRandomizationConformance(OperatorConformance):
    operator = StyleRandomization
    params: ClassVar = {"distribution": "distribution.safetensors"}
    tolerance = 2

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder)


class TestStyleRandomizationFittedConformance(OperatorConformance):
    operator = StyleRandomization
    params: ClassVar = {"styles": "paintings/", "rank": 2, "style_size_px": 32, "spread": 2.0}
    tolerance = 2

    def assets(self, folder: Path) -> Assets:
        made = assets_in(folder)
        return Assets({"model": made.models["model"]}, {"styles": [style(1)]}, fitted=made.fitted)


# ---- the distribution ------------------------------------------------------------------------------------------------


def reference_set_of(count: int, channels: int = 5, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    mean = 3 + torch.randn(count, channels, dtype=torch.float64, generator=generator)
    std = torch.randn(count, channels, dtype=torch.float64, generator=generator).exp()
    return [(mean[i].view(1, -1, 1, 1), std[i].view(1, -1, 1, 1)) for i in range(count)]


def test_the_factor_is_that_of_the_covariance_of_means_and_logarithms() -> None:
    reference_set = reference_set_of(200)
    vectors = np.stack([np.concatenate([m.flatten().numpy(), np.log(s.flatten().numpy())]) for m, s in reference_set])
    whole = fit_distribution(reference_set, 256, "e")
    np.testing.assert_allclose(whole.mean.numpy(), vectors.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(whole.factor.numpy() @ whole.factor.numpy().T, np.cov(vectors.T), atol=1e-5)
    some = fit_distribution(reference_set, 3, "e")
    variances, directions = np.linalg.eigh(np.cov(vectors.T))
    wanted = (directions[:, -3:] * variances[-3:]) @ directions[:, -3:].T  # the best approximation of rank 3
    np.testing.assert_allclose(some.factor.numpy() @ some.factor.numpy().T, wanted, atol=1e-5)
    lengths = np.square(some.factor.numpy()).sum(axis=0)
    assert some.rank == 3 and list(lengths) == sorted(lengths, reverse=True)


def test_what_is_drawn_has_the_statistics_of_the_bank() -> None:
    reference_set = reference_set_of(40)
    whole = fit_distribution(reference_set, 256, "e")
    assert whole.rank == 10  # 2 C, fewer than 39
    z = torch.randn(20_000, whole.rank, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mean, std = whole.statistics(z)
    logs = torch.cat([std.log() for _, std in reference_set]).flatten(1)
    torch.testing.assert_close(std.log().flatten(1).mean(0), logs.mean(0).float(), atol=0.05, rtol=0)
    torch.testing.assert_close(std.log().flatten(1).std(0), logs.std(0).float(), atol=0.05, rtol=0)
    assert (mean >= 0).all() and (std > 0).all()


def test_few_images_give_few_directions_and_equal_ones_none() -> None:
    assert fit_distribution(reference_set_of(4), 16, "e").rank == 3
    with pytest.raises(ModelError, match="needs 2 images at least, and there are 1"):
        fit_distribution(reference_set_of(1), 16, "e")
    with pytest.raises(ModelError, match="needs images that differ, and all 3 are alike"):
        fit_distribution(reference_set_of(1) * 3, 16, "e")


def test_a_file_says_whose_features_it_is_of(tmp_path: Path) -> None:
    encoder, _ = networks(tmp_path)
    encoder.half().float()
    made = fit_distribution(reference_set_of(9, 32), 4, encoder_sha256(encoder))
    again = read_distribution(made.to_bytes(), "file", encoder)
    assert (again.encoder, again.images, again.rank) == (made.encoder, 9, 4)
    assert torch.equal(again.mean, made.mean) and torch.equal(again.factor, made.factor)
    assert made.to_bytes() == again.to_bytes()
    with pytest.raises(ModelError, match="file: fitted to the features of another encoder"):
        read_distribution(made.to_bytes(), "file", adain.load_encoder(SHIPPED))
    for data in (b"", b"no file at all", SHIPPED.read_bytes()):
        with pytest.raises(ModelError, match=r"distribution file: (cannot be read|holds no mean)") as caught:
            read_distribution(data, "file", encoder)
        assert "\n" not in str(caught.value)
    spoilt = StyleDistribution(made.mean * torch.nan, made.factor, made.encoder, 9)
    with pytest.raises(ModelError, match="not finite"):
        read_distribution(spoilt.to_bytes(), "file", encoder)


def test_the_encoder_of_two_files_is_the_encoder_of_one(tmp_path: Path) -> None:
    shipped = adain.load_encoder(SHIPPED)
    torch.save(shipped.state_dict(), tmp_path / "encoder.pth")
    assert encoder_sha256(adain.load_encoder(tmp_path / "encoder.pth")) == encoder_sha256(shipped)


# ---- the shipped one -------------------------------------------------------------------------------------------------


def test_the_shipped_distribution_is_of_the_shipped_encoder_and_its_script_repeats() -> None:
    shipped = read_distribution(DISTRIBUTION.read_bytes(), DISTRIBUTION, adain.load_encoder(SHIPPED))
    assert (shipped.images, shipped.rank) == (1200, 48)
    assert len(list(styles(1, 2))) == 12 + 20
    one, two = (fitted(textures=1, crops=1, rank=4).to_bytes() for _ in range(2))
    assert one == two


def test_random_styles_need_no_image_and_are_many() -> None:
    operator = StyleRandomization(StyleRandomizationParams(alpha_range=(1, 1)))
    assert operator.requirements().images == {} and not operator.requirements().fitted
    operator.load("cpu", Assets({"model": SHIPPED, "distribution": DISTRIBUTION}))
    batch = make_batch([3] * 12, (32, 32), 3)
    batch = type(batch)(batch.images, make_batch(list(range(12))).seeds, batch.labels)
    made = act(operator, batch)
    assert not made.rejected and operator.draw(batch).partners is None
    colours = made.images.mean(axis=(1, 2))  # of one source image, twelve times
    apart = np.abs(colours[:, None] - colours[None]).max(axis=2)
    assert np.median(apart[~np.eye(12, dtype=bool)]) > 20


def test_each_image_is_plain_adain_at_its_drawn_statistics(tmp_path: Path) -> None:
    operator = loaded(tmp_path, min_side_px=1)
    batch = make_batch([0, 1, 2], (24, 32), 3)
    draws = operator.draw(batch)
    made = act(operator, batch, draws).images
    file = tmp_path / "adain.safetensors"
    encoder, decoder = adain.load_encoder(file), adain.load_decoder(file)
    for row in range(3):
        drawn = draws.row(row)
        vector = operator._distribution.mean.double().numpy() + operator._distribution.factor.double().numpy() @ (
            np.array(drawn["coefficients"])
        )
        mean, std = np.maximum(vector[:32], 0), np.exp(vector[32:])
        with torch.no_grad():
            features = encoder(torch.from_numpy(batch.images[row : row + 1]).permute(0, 3, 1, 2) / 255)
            moved = adain.adain(features, *(torch.from_numpy(v).float().view(1, -1, 1, 1) for v in (mean, std)))
            image = decoder(drawn["alpha"] * moved + (1 - drawn["alpha"]) * features).clamp(0, 1)
        assert_near(made[row], (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy(), 1)


def test_coefficients_are_normal_with_the_spread_and_no_more_than_the_rank(tmp_path: Path) -> None:
    batch = make_batch(list(range(1500)), (1, 1))
    for rank, spread in ((2, 1.0), (200, 2.0), (3, 0.0)):
        operator = StyleRandomization(StyleRandomizationParams(rank=rank, spread=spread))
        operator._distribution = fit_distribution(reference_set_of(9), 4, "e")
        found = np.array(operator.draw(batch).columns["coefficients"])
        assert found.shape == (1500, min(rank, 4))
        assert abs(found.mean()) < 0.06 * spread + 1e-9
        assert found.std() == pytest.approx(spread, rel=0.05)


# ---- fitted by prepare -----------------------------------------------------------------------------------------------


def fitting(**params: Any) -> dict[str, Any]:
    given = {"styles": "paintings/", "rank": 3, "style_size_px": 32, "min_side_px": 1, **params}
    return {"name": "random", "copies": 1, "operators": [{"style_randomization": given}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_input(tmp_path / "data", shards=1, rows=20)
    (tmp_path / "paintings").mkdir()
    for index, data in enumerate(photos(5, 40, 40, seed=8)):
        (tmp_path / f"paintings/{index}.png").write_bytes(data)
    return tmp_path


def test_it_is_fitted_once_and_units_need_no_style_image(folder: Path) -> None:
    recipe = write_recipe(folder, [fitting()])
    plan = plan_of(recipe)
    manifest, _ = run_here(plan)
    assert manifest.complete and manifest.counts.accepted == 20
    ((sha256, origin),) = manifest.artifacts.items()  # no style image among them
    assert origin == "fitted by style_randomization to paintings/"
    names = sorted(path.name for path in (folder / "out/_artifacts").iterdir())
    assert names[0] == sha256 or names[1] == sha256
    assert len(names) == 2
    store = open_store(str(folder / "out"))
    assert verify_dataset(store).ok
    before = contents(folder / "out")
    (folder / "paintings").rename(folder / "gone")
    for row in rows_of(folder / "out")[::7]:
        assert len(json.loads(row["steps"][0]["params"])["coefficients"]) == 3 and row["partners"] == []
        assert replay_sample(store, row["sample_id"]).equal
    with pytest.raises(InputError, match="paintings"):
        plan_of(recipe)
    unit = plan.units[1].name  # a resume on another machine: what is stored is used, whatever a fit would give here
    forget(folder / "out", unit)
    _, outcomes = run_here(plan)
    assert [outcome.unit for outcome in outcomes] == [unit]
    assert contents(folder / "out") == before


def test_a_unit_depends_on_what_is_fitted_to_and_not_on_where_it_lies(folder: Path) -> None:
    digest = plan_of(write_recipe(folder, [fitting()])).digest
    (folder / "paintings").rename(folder / "moved")
    assert plan_of(write_recipe(folder, [fitting(styles="moved/")])).digest == digest
    (folder / "moved").rename(folder / "paintings")
    assert plan_of(write_recipe(folder, [fitting()])).digest == digest
    (folder / "paintings/0.png").write_bytes(photos(1, 40, 40, seed=99)[0])
    assert plan_of(write_recipe(folder, [fitting()])).digest != digest


def test_a_spoilt_artifact_is_refused_and_found(folder: Path) -> None:
    plan = plan_of(write_recipe(folder, [fitting()]))
    manifest, _ = run_here(plan)
    (sha256,) = manifest.artifacts
    (folder / f"out/_artifacts/{sha256}").write_bytes(b"something else")
    store = open_store(str(folder / "out"))
    assert any(sha256 in finding for finding in verify_dataset(store).findings)
    with pytest.raises(JobError, match="content does not match its name"):
        replay_sample(store, rows_of(folder / "out")[0]["sample_id"])
    (pointer,) = (folder / "out/_artifacts").glob("*.json")
    pointer.write_text("{}")
    with pytest.raises(ConflictError, match="does not name what was fitted"):
        run_here(plan)


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_distribution_or_styles_and_not_both() -> None:
    with pytest.raises(RecipeError, match="a distribution is given or fitted to styles; remove one"):
        parse(StyleRandomizationParams, {"distribution": "a.safetensors", "styles": "b/"}, "style_randomization")


@pytest.mark.parametrize("params", [{"alpha_range": [0.5, 1.5]}, {"spread": -1}, {"rank": 0}, {"spread": 9}])
def test_a_parameter_out_of_range_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=f"style_randomization.{next(iter(params))} = "):
        parse(StyleRandomizationParams, params, "style_randomization")


def test_styles_that_cannot_be_fitted_to_are_one_line(tmp_path: Path) -> None:
    networks(tmp_path)
    operator = StyleRandomization(StyleRandomizationParams(styles="s/", style_size_px=32))
    flat = reference(np.full((9, 9, 3), 40, np.uint8), "flat.png")
    for reference_set, message in (
        ([style(1)], "needs 2 images at least"),
        ([flat, flat], "needs images that differ"),
        ([style(1), no_image()], "notes.txt: not usable as a style"),
        ([], "there is no image in it"),
        ([style(1), style(2, (400, 4))], "too narrow"),
    ):
        with pytest.raises(JobError, match=rf"style_randomization.styles.*{message}") as caught:
            operator.fit(Assets({"model": tmp_path / "adain.safetensors"}, {"styles": reference_set}))
        assert "\n" not in str(caught.value)


def test_the_shipped_distribution_does_not_fit_other_networks(tmp_path: Path) -> None:
    networks(tmp_path)
    operator = StyleRandomization(StyleRandomizationParams(model="mine.safetensors"))
    with pytest.raises(ModelError, match=r"another encoder .* give `styles`"):
        operator.load("cpu", Assets({"model": tmp_path / "adain.safetensors", "distribution": DISTRIBUTION}))
