"""MixStyle: real networks made tiny, and the mixed statistics themselves."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from palimpsest.testing.operators import OperatorConformance, act, assert_near, make_batch, partner_of
from pipeline.contracts import Assets, Draws, ImageBatch, Partner, PartnerRow
from pipeline.errors import JobError, ModelError, RecipeError
from pipeline.networks.style import adain
from pipeline.operators.style.mix_style import MixStyle, MixStyleParams
from pipeline.validation import parse
from tests.operators.style.test_adain_style import networks

pytestmark = pytest.mark.usefixtures("one_thread")


def assets_in(folder: Path) -> Assets:
    networks(folder)
    return Assets({"model": folder / "adain.safetensors"})


class TestMixStyleConformance(OperatorConformance):
    operator = MixStyle
    params: ClassVar = {"beta": 1.0}
    tolerance = 2

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder)


def loaded(folder: Path, **params: Any) -> MixStyle:
    operator = MixStyle(MixStyleParams(**params))
    operator.load("cpu", assets_in(folder))
    return operator


def with_partners(count: int, size: tuple[int, int] = (24, 32)) -> ImageBatch:
    batch = make_batch(list(range(count)), size, 3)
    return replace(batch, partners=[partner_of(index, "style", 3) for index in range(count)])


def test_the_decoded_features_have_the_mixed_statistics(tmp_path: Path) -> None:
    """Equation by equation in NumPy: gamma and beta of section 2.2, on both images' features."""
    operator = loaded(tmp_path, min_side_px=1)
    batch = with_partners(4, (32, 32))
    draws = operator.draw(batch)
    made = act(operator, batch, draws).images
    file = tmp_path / "adain.safetensors"
    encoder, decoder = adain.load_encoder(file), adain.load_decoder(file)
    assert batch.images is not None and batch.partners is not None
    for row in (0, 3):  # whose partners have sides that need no padding, or much of it
        partner, share = batch.partners[row], draws.columns["alpha"][row]
        assert partner is not None
        with torch.no_grad():
            own = encoder(torch.from_numpy(batch.images[row]).permute(2, 0, 1)[None] / 255)
            padded, _ = adain.pad_to_stride(torch.from_numpy(partner.pixels).permute(2, 0, 1)[None] / 255)
            flat, other = own.flatten(2).double().numpy(), encoder(padded).flatten(2).double().numpy()
            deviation, theirs = (np.sqrt(v.var(axis=2, ddof=1) + 1e-5)[..., None] for v in (flat, other))
            mean, their_mean = (v.mean(axis=2)[..., None] for v in (flat, other))
            gamma = (1 - share) * deviation + share * theirs
            beta = (1 - share) * mean + share * their_mean
            features = gamma * (flat - mean) / deviation + beta
            image = decoder(torch.from_numpy(features).float().view_as(own)).clamp(0, 1)
        assert_near(made[row], (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy(), 1)


def test_shares_follow_the_beta_distribution(tmp_path: Path) -> None:
    for beta in (0.1, 1.0, 20.0):
        operator = MixStyle(MixStyleParams(beta=beta))
        found = np.array(operator.draw(with_partners(1500, (1, 1))).columns["alpha"])
        assert found.min() >= 0 and found.max() <= 1
        assert found.mean() == pytest.approx(0.5, abs=0.05)
        assert found.var() == pytest.approx(1 / (4 * (2 * beta + 1)), rel=0.15)


def test_the_partner_is_in_the_lineage_and_changes_the_image(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    batch = with_partners(4)
    draws = operator.draw(batch)
    assert draws.columns["partner_row"] == [1, 2, 3, 4]
    assert draws.partners is not None and batch.partners is not None
    assert [some[0] for some in draws.partners] == [row.partner for row in batch.partners if row is not None]
    whole = Draws({**draws.columns, "alpha": [1.0] * 4}, draws.partners)
    none = Draws({**draws.columns, "alpha": [0.0] * 4}, draws.partners)
    other = replace(batch, partners=list(batch.partners[::-1]))
    one, two = act(operator, batch, whole).images, act(operator, other, whole).images
    assert np.abs(one.astype(int) - two).mean() > 2
    np.testing.assert_array_equal(act(operator, batch, none).images, act(operator, other, none).images)


def test_an_image_without_a_partner_is_rejected_and_the_others_are_not(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    batch = with_partners(3)
    assert batch.partners is not None
    alone = replace(batch, partners=[batch.partners[0], None, batch.partners[2]])
    draws = operator.draw(alone)
    assert draws.columns["partner_row"] == [1, None, 3] and draws.partners is not None and draws.partners[1] == []
    made, whole = act(operator, alone, draws), act(operator, batch)
    assert made.rejected == {1: "no_partner"}
    assert_near(made.images[[0, 2]], whole.images[[0, 2]], 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1)])
def test_a_partner_of_any_size_and_one_of_one_colour_will_do(size: tuple[int, int], tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    flat = PartnerRow(Partner("style", "/a.parquet", "0" * 64, 5), np.full((*size, 3), 90, np.uint8))
    made = act(operator, replace(make_batch([0, 1], (24, 24), 3), partners=[flat, flat]))
    assert made.images.shape == (2, 24, 24, 3) and not made.rejected and not made.errors


@pytest.mark.parametrize("beta", [0, -1, 1000, float("nan")])
def test_a_beta_out_of_range_is_refused(beta: float) -> None:
    with pytest.raises(RecipeError, match=r"mix_style.beta = "):
        parse(MixStyleParams, {"beta": beta}, "mix_style")


def test_a_batch_without_images_or_of_another_network_is_one_line(tmp_path: Path) -> None:
    operator = loaded(tmp_path)
    empty = ImageBatch(None, [1], np.array([0]), partners=[partner_of(0, "style", 3)])
    with pytest.raises(JobError, match="mix_style: there are no images to stylise"):
        act(operator, empty, Draws({"alpha": [0.5], "partner_row": [1]}))
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="no AdaIN encoder"):
        MixStyle(MixStyleParams(model="other.pth")).load("cpu", Assets({"model": tmp_path / "other.pth"}))
