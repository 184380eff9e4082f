"""AdaIN in its published layout, random weights: the operator beside loops that encode the style anew, or once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.bench.contestants.plain_adain import AdaINStyliser
from jobs.bench.contestants.task import CASES, Models
from jobs.bench.gpu.setting import Setting, operator_call
from jobs.bench.gpu.timing import Contestant, Make
from jobs.bench.inputs import reference_models
from pipeline.contracts import Assets, Pixels
from pipeline.operators.style.adain_style import AdaINStyle, AdaINStyleParams
from pipeline.planning.reference_images import find_images, read_images

GOAL = {"images_per_s": 500, "ratio_one_at_a_time": 10}


def adain(setting: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
    """Full style at the image's own size, arrays in and out."""
    sizes, device = setting.sizes, setting.device
    models = reference_models(CASES["adain"])
    contestants = {}
    for dtype in dict.fromkeys((setting.half, "float32")):
        make = operator_call(_product(setting, models, dtype), device, sizes.style_batch)
        contestants[f"palimpsest_{dtype}"] = Contestant(make, sizes.style_images, sizes.style_batch, sizes.style_px)
    for name, anew, batch in (("one_at_a_time", True, 1), ("batches", False, sizes.style_batch)):
        styliser = AdaINStyliser(models, anew=anew, device=device)
        images = sizes.style_loop_images if anew else sizes.style_images
        contestants[name] = Contestant(_loop(styliser, batch), images, batch, sizes.style_px, plain=True)
    found = setting.clock().compare(contestants, f"palimpsest_{setting.half}")
    what = f"published layout, random weights, {sizes.style_px} px"
    yield "adain", {"what": what, "batch": sizes.style_batch, "goal": GOAL, **found}


def _product(setting: Setting, models: Models, dtype: str) -> AdaINStyle:
    given = {"encoder": models.encoder, "decoder": models.decoder}
    operator = AdaINStyle(AdaINStyleParams(**given, styles=models.style, alpha_range=(1, 1), min_side_px=1))
    files = {name: Path(path) for name, path in given.items()}
    styles = read_images(find_images(models.style, "."))
    operator.load(setting.device, Assets(files, {"styles": tuple(styles)}, dtype=dtype))  # type: ignore[arg-type]
    return operator


def _loop(styliser: AdaINStyliser, batch: int) -> Make:
    def make(numbers: range, sources: Pixels | None) -> None:
        assert sources is not None
        for start in range(0, len(numbers), batch):
            styliser(sources[start : start + batch])

    return make
