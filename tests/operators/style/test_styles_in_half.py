"""`numerics.dtype` in the operators whose networks restyle: nearly the same images, and all that conformance asks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from jobs.loaded_operator import assets_of
from palimpsest.testing.operators import OperatorConformance, act, make_batch, partner_of
from pipeline.contracts import Assets, Operator
from pipeline.operators.style.adain_style import AdaINStyle, AdaINStyleParams
from pipeline.operators.style.fast_style import FastStyle, FastStyleParams
from pipeline.operators.style.mix_style import MixStyle, MixStyleParams
from pipeline.operators.style.style_randomization import StyleRandomization, StyleRandomizationParams

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (64, 48)
OPERATORS: dict[str, Callable[[], Operator]] = {
    "adain_style": lambda: AdaINStyle(AdaINStyleParams(style_size_px=64)),
    "adain_style in regions": lambda: AdaINStyle(AdaINStyleParams(mask="drawn", keep="none", style_size_px=64)),
    "adain_style, own colours": lambda: AdaINStyle(AdaINStyleParams(preserve_color=True, style_size_px=64)),
    "fast_style": lambda: FastStyle(FastStyleParams()),
    "mix_style": lambda: MixStyle(MixStyleParams()),
    "style_randomization": lambda: StyleRandomization(StyleRandomizationParams()),
}


class TestAdaINInBfloat16(OperatorConformance):
    operator = AdaINStyle
    params: ClassVar[dict[str, Any]] = {"min_side_px": 1, "style_size_px": 64}
    tolerance = 12  # eight bits a number, and sums of another order end on the other side of one

    def assets(self, folder: Path) -> Assets:
        return replace(assets_of(self.make()), dtype="bfloat16")


class TestFastStyleInBfloat16(OperatorConformance):
    operator = FastStyle
    params: ClassVar[dict[str, Any]] = {"alpha_range": [0.2, 1.0]}
    tolerance = 12

    def assets(self, folder: Path) -> Assets:
        return replace(assets_of(self.make()), dtype="bfloat16")


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_bfloat16_makes_nearly_the_same_images(name: str) -> None:
    batch = make_batch(list(range(4)), SIZE, 3)
    images = np.repeat(np.repeat(make_batch(list(range(4)), (8, 6), 3).images, 8, axis=1), 8, axis=2)  # no grain
    batch = replace(batch, images=images, partners=[partner_of(index, "style", 3) for index in range(4)])
    made = []
    for dtype in ("float32", "bfloat16"):
        operator = OPERATORS[name]()
        operator.load("cpu", replace(assets_of(operator), dtype=dtype))
        draws = operator.draw(batch)
        made.append((draws, act(operator, batch, draws)))
    (draws, whole), (other, half) = made
    assert draws == other and not half.rejected and not half.errors
    distance = np.abs(whole.images.astype(int) - half.images)
    assert 0 < distance.mean() < 2.5 and distance.max() < 40
