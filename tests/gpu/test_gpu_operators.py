"""Every operator with a network on the GPU, beside the CPU: equal draws, images a few grey levels apart."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palimpsest.testing.operators import partner_of, seed_of
from pipeline.contracts import ImageBatch
from pipeline.registry import operator_class
from tests.fixtures.shard_files import photos
from tests.gpu.on_gpu import applied, loaded

CASES: list[tuple[str, dict[str, Any], float, int]] = [
    ("adain_style", {}, 0.05, 2),
    ("adain_style", {"styles_per_image": 2, "preserve_color": True}, 0.05, 2),
    ("adain_style", {"mask": "drawn", "keep": "none"}, 0.05, 2),
    ("diffusion_edit", {"steps": 6, "condition": "none"}, 0.05, 4),
    ("diffusion_edit", {"steps": 6, "condition": "none", "method": "adams", "guidance": 1.0}, 0.05, 4),
    ("diffusion_generate", {"steps": 8, "condition": "none"}, 0.05, 6),
    ("diffusion_inpaint", {"steps": 6, "condition": "none"}, 0.05, 6),
    ("fast_style", {}, 0.05, 2),
    ("gan_synth", {}, 0.05, 2),
    ("mix_style", {}, 0.05, 2),
    ("style_randomization", {}, 0.05, 2),
]
"""Operator, parameters, and grey levels allowed: on average over all pixels, and at most in one."""


def _batch(generative: bool, role: str | None) -> ImageBatch:
    indexes = list(range(6))
    seeds, labels = [seed_of(index) for index in indexes], np.full(6, -1, np.int64)
    batch = ImageBatch(None if generative else np.stack(_photos()), seeds, labels)
    return batch if role is None else replace(batch, partners=[partner_of(index, role, 3) for index in indexes])


def _photos() -> list[np.ndarray]:
    from pipeline.shards.images.codecs import decode, fit_square

    return [fit_square(decode(data, 10**8), 40) for data in photos(6, seed=0)]


@pytest.mark.parametrize(("name", "params", "mean", "limit"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_the_gpu_makes_what_the_cpu_makes(name: str, params: dict[str, Any], mean: float, limit: int) -> None:
    found = operator_class(name)
    batch = _batch(found.generative, found(found.Params(**params)).partner)
    images, draws = {}, {}
    for device in ("cpu", "cuda"):
        operator = loaded(found(found.Params(**params)), device)
        draws[device] = dict(operator.draw(batch).columns)
        images[device] = applied(operator, batch, device)
    assert draws["cuda"] == draws["cpu"]
    distance = np.abs(images["cuda"] - images["cpu"])
    assert images["cpu"].std() > 5 and distance.mean() <= mean and distance.max() <= limit, (
        f"{distance.mean():.4f} grey levels apart on average, {distance.max()} at most"
    )
