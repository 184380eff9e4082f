"""AdaINStyle: real networks made tiny, real image files as styles."""

import io
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from palimpsest.testing.operators import OperatorConformance, act, assert_near, make_batch
from pipeline.contracts import Assets, Draws, ImageBatch, Pixels, ReferenceImage, Requirements
from pipeline.errors import JobError, ModelError, RecipeError
from pipeline.model_files.references import ASSETS
from pipeline.networks.style import adain
from pipeline.operators.style.adain_style import AdaINStyle, AdaINStyleParams
from pipeline.validation import parse
from tests.fixtures.reference_images import no_image, reference, style

pytestmark = pytest.mark.usefixtures("one_thread")


def networks(folder: Path, width: int = 4) -> tuple[torch.nn.Sequential, torch.nn.Sequential]:
    """An encoder and a decoder with drawn weights, saved as `adain.safetensors`, `encoder.pth` and `decoder.pth`.

    The variance of the weights keeps the signal alive through all layers: torch's own start would paint every image
    the same.
    """
    generator = torch.Generator().manual_seed(5)
    encoder, decoder = adain.build_encoder(width), adain.build_decoder(width)
    for layer in [*encoder, *decoder]:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        decoder[-1].weight.mul_(3.0)
        decoder[-1].bias.fill_(0.5)
    adain.save_networks(folder / "adain.safetensors", encoder, decoder)
    torch.save(encoder.state_dict(), folder / "encoder.pth")
    torch.save(decoder.state_dict(), folder / "decoder.pth")
    return encoder, decoder


def assets_in(folder: Path, *styles: ReferenceImage) -> Assets:
    networks(folder)
    return Assets(models={"model": folder / "adain.safetensors"}, images={"styles": styles})


def loaded(folder: Path, *styles: ReferenceImage, **params: Any) -> AdaINStyle:
    operator = AdaINStyle(AdaINStyleParams(style_size_px=32, **params))
    operator.load("cpu", assets_in(folder, *styles))
    return operator


class TestAdaINStyleConformance(OperatorConformance):
    operator = AdaINStyle
    params: ClassVar = {"style_size_px": 32}
    tolerance = 2

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder, style(1), style(2, (24, 90)), style(3, channels=1))


class TestAdaINStyleOfTwoFilesConformance(OperatorConformance):
    operator = AdaINStyle
    params: ClassVar = {"style_size_px": 32, "encoder": "vgg_normalised.pth", "decoder": "decoder.pth"}
    tolerance = 2

    def assets(self, folder: Path) -> Assets:
        networks(folder)
        models = {"encoder": folder / "encoder.pth", "decoder": folder / "decoder.pth"}
        return Assets(models=models, images={"styles": [style(1), style(2)]})


# ---- what is made ----------------------------------------------------------------------------------------------------


class TestAdaINStyleOfMixedRecolouredStylesConformance(OperatorConformance):
    operator = AdaINStyle
    params: ClassVar = {"style_size_px": 32, "styles_per_image": 2, "preserve_color": True}
    tolerance = 3

    def assets(self, folder: Path) -> Assets:
        return assets_in(folder, style(1), style(2, (24, 90)), style(3, channels=1))


def test_several_styles_are_the_weighted_sum_of_their_features(tmp_path: Path) -> None:
    styles = [style(1), style(2), style(3)]
    operator = loaded(tmp_path, *styles, styles_per_image=3, min_side_px=1, alpha_range=(1, 1))
    batch = make_batch([0, 1], (32, 32), 3)
    draws = operator.draw(batch)
    assert all(abs(sum(weights) - 1) < 1e-9 for weights in draws.columns["weights"])
    made = act(operator, batch, draws).images
    encoder, decoder = (
        adain.load_encoder(tmp_path / "adain.safetensors"),
        adain.load_decoder(tmp_path / "adain.safetensors"),
    )
    with torch.inference_mode():
        for row in range(2):
            content = torch.from_numpy(batch.images[row : row + 1]).permute(0, 3, 1, 2).float() / 255
            features = encoder(content)
            mixed = 0
            for key, weight in zip(draws.columns["style"][row], draws.columns["weights"][row], strict=True):
                place = [one.sha256[:16] for one in styles].index(key)
                mixed = mixed + weight * adain.adain(features, operator._mean[[place]], operator._deviation[[place]])
            wanted = (decoder(mixed).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()[0]
            assert_near(made[row], wanted.astype(np.uint8), 1)


def test_mixing_a_style_with_itself_is_that_style(tmp_path: Path) -> None:
    batch = make_batch([0, 1, 2], (32, 32), 3)
    one, many = (loaded(tmp_path, style(1), styles_per_image=n, alpha_range=(0.7, 0.7)) for n in (1, 4))
    assert_near(act(many, batch).images, act(one, batch).images, 1)
    assert [len(partners) for partners in many.draw(batch).partners or []] == [1, 1, 1]


def test_a_style_in_the_colours_of_the_image_moves_its_colours_less(tmp_path: Path) -> None:
    shipped = {"model": ASSETS / "models" / "adain.safetensors"}
    red = np.zeros((64, 64, 3), np.uint8)
    red[::2, :, 0] = 255
    assets = Assets(shipped, {"styles": [reference(red, "red.png")]})
    green = make_batch([0, 1, 2, 3], (64, 64), 3)
    green.images[..., [0, 2]] //= 4
    moved = {}
    for kept in (False, True):
        operator = AdaINStyle(AdaINStyleParams(style_size_px=64, preserve_color=kept, alpha_range=(1, 1)))
        operator.load("cpu", assets)
        made = act(operator, green).images
        moved[kept] = np.abs(made.mean(axis=(1, 2)) - green.images.mean(axis=(1, 2))).max()
    assert 3 * moved[True] < moved[False]


def test_each_image_is_the_published_arithmetic_on_its_own_draws(tmp_path: Path) -> None:
    styles = [style(1, (32, 32)), style(2, (32, 32))]
    encoder, decoder = networks(tmp_path)
    encoder.half().float(), decoder.half().float()  # as stored
    operator = loaded(tmp_path, *styles, min_side_px=1)
    batch = make_batch(list(range(6)), (24, 40), 3)
    assert batch.images is not None
    draws = operator.draw(batch)
    made = act(operator, batch, draws).images
    by_key = {reference.sha256[:16]: reference for reference in styles}
    for index in range(6):
        row = draws.row(index)
        picture = np.asarray(Image.open(io.BytesIO(by_key[row["style"]].data)))
        with torch.no_grad():
            target = encoder(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255)
            content = encoder(torch.from_numpy(batch.images[index]).permute(2, 0, 1)[None] / 255)
            flat, wanted = content.flatten(2), target.flatten(2)
            centred = (flat - flat.mean(2, keepdim=True)) / (flat.var(2, keepdim=True) + 1e-5).sqrt()
            moved = centred * (wanted.var(2, keepdim=True) + 1e-5).sqrt() + wanted.mean(2, keepdim=True)
            mixed = row["alpha"] * moved + (1 - row["alpha"]) * flat
            image = decoder(mixed.view_as(content)).clamp(0, 1)
        assert_near(made[index], (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy(), 1)


def test_grey_becomes_rgb_as_the_same_picture_in_three_channels_does(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1))
    grey = make_batch([0, 1, 2], (28, 28), 1)
    assert grey.images is not None
    rgb = ImageBatch(images=np.repeat(grey.images, 3, axis=3), seeds=grey.seeds, labels=grey.labels)
    made = act(operator, grey).images
    assert made.shape == (3, 28, 28, 3)
    np.testing.assert_array_equal(made, act(operator, rgb).images)


def test_styles_and_shares_are_drawn_evenly_and_named(tmp_path: Path) -> None:
    styles = [style(index) for index in range(4)]
    operator = loaded(tmp_path, *styles, alpha_range=(0.2, 0.6))
    draws = operator.draw(make_batch(list(range(2000)), (1, 1)))
    alphas = np.array(draws.columns["alpha"])
    assert alphas.min() >= 0.2 and alphas.max() < 0.6
    assert alphas.mean() == pytest.approx(0.4, abs=0.01)
    counts = Counter(draws.columns["style_name"])
    assert sum((counts[f"style-{index}.png"] - 500) ** 2 / 500 for index in range(4)) < 16.3  # 3 degrees, p = 0.001
    assert draws.partners is not None
    for key, (partner,) in zip(draws.columns["style"], draws.partners, strict=True):
        assert partner.role == "style" and partner.sha256.startswith(key)
        assert partner.source_uri in {reference.uri for reference in styles}


def test_the_style_changes_the_image_and_alpha_0_ignores_it(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), style(2))
    batch = make_batch([0], (32, 32), 3)
    keys = [style(index).sha256[:16] for index in (1, 2)]

    def restyled(key: str, alpha: float) -> Pixels:
        return act(operator, batch, Draws({"style": [key], "style_name": [""], "alpha": [alpha]})).images

    distance = restyled(keys[0], 1.0).astype(int) - restyled(keys[1], 1.0).astype(int)
    assert np.abs(distance).mean() > 5
    assert restyled(keys[0], 0.0).std() > 5
    np.testing.assert_array_equal(restyled(keys[0], 0.0), restyled(keys[1], 0.0))


def test_an_image_that_is_not_finite_is_rejected_and_the_others_are_not(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1), style(2))
    batch = make_batch(list(range(8)), (16, 16), 3)
    draws = operator.draw(batch)
    operator._mean[0] = torch.nan
    applied = act(operator, batch, draws)
    spoilt = {index for index, name in enumerate(draws.columns["style_name"]) if name == "style-1.png"}
    assert 0 < len(spoilt) < 8
    assert applied.rejected == dict.fromkeys(spoilt, "non_finite")
    assert not applied.images[sorted(spoilt)].any()


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha_range", [(-0.1, 0.5), (0.5, 1.1), (0.9, 0.3), (0.2, float("nan"))])
def test_a_share_out_of_range_is_refused(alpha_range: tuple[float, float]) -> None:
    with pytest.raises(RecipeError, match=r"adain_style.alpha_range = .*within \[0, 1\], the smaller one first"):
        parse(AdaINStyleParams, {"alpha_range": alpha_range}, "adain_style")


@pytest.mark.parametrize("lonely", ["encoder", "decoder"])
def test_encoder_and_decoder_go_together(lonely: str) -> None:
    with pytest.raises(RecipeError, match="encoder and decoder are given together; give both or neither"):
        parse(AdaINStyleParams, {lonely: "file.pth"}, "adain_style")


def test_two_files_and_a_model_contradict_each_other() -> None:
    params = {"encoder": "a.pth", "decoder": "b.pth", "model": "c.safetensors"}
    with pytest.raises(RecipeError, match="encoder and decoder replace model"):
        parse(AdaINStyleParams, params, "adain_style")


def test_needs_are_one_file_or_two() -> None:
    one = AdaINStyle(AdaINStyleParams(styles="paintings/"))
    assert one.requirements() == Requirements(models={"model": "builtin:adain"}, images={"styles": "paintings/"})
    two = AdaINStyle(AdaINStyleParams(encoder="a.pth", decoder="b.pth"))
    assert two.requirements().models == {"encoder": "a.pth", "decoder": "b.pth"}


def test_a_style_that_is_no_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"adain_style.styles: /pictures/notes.txt: not usable as a style"):
        loaded(tmp_path, style(1), no_image())


def test_a_style_that_is_a_sliver_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"style-1.png: 400 x 4 px is too narrow"):
        loaded(tmp_path, style(1, (400, 4)))


def test_no_style_at_all_is_an_error_of_the_job(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"adain_style.styles = 'builtin:styles': there is no image in it"):
        loaded(tmp_path)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    operator = AdaINStyle(AdaINStyleParams())
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="no AdaIN encoder"):
        operator.load("cpu", Assets(models={"model": tmp_path / "other.pth"}, images={"styles": [style(1)]}))


def test_a_style_of_the_lineage_that_is_gone_is_named(tmp_path: Path) -> None:
    operator = loaded(tmp_path, style(1))
    with pytest.raises(JobError, match="style feedfeedfeedfeed of the lineage is not in it"):
        act(
            operator,
            make_batch([0], channels=3),
            Draws({"style": ["feed" * 4], "style_name": ["gone.png"], "alpha": [0.5]}),
        )


def test_draw_before_load_says_so() -> None:
    with pytest.raises(RuntimeError, match="load comes before draw"):
        AdaINStyle(AdaINStyleParams()).draw(make_batch([0]))
