"""The embedded models of 28 px: images by diffusion and by the GAN, beside one image a call in float32."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from jobs.bench.diffusion import METHOD, STUDENT, STUDENT_STEPS
from jobs.bench.gpu.setting import Setting, operator_call
from jobs.bench.gpu.timing import Contestant, Make
from pipeline.contracts import Operator, Pixels
from pipeline.model_files.references import ASSETS
from pipeline.networks.generators.flow_matching import load_flow
from pipeline.networks.generators.wgan import load_generator
from pipeline.operators.diffusion.diffusion_generate import DiffusionGenerate, DiffusionGenerateParams
from pipeline.operators.gan.gan_synth import GanSynth, GanSynthParams
from pipeline.planning.parts import find_files, read_assets

FOLDER = ASSETS / "models"


def diffusion(setting: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
    """The operator at the loop's number of steps, at its own, with the 4-step model, and in larger batches."""
    sizes, (_, classes) = setting.sizes, load_flow(FOLDER / "fashion-diffusion.safetensors")
    many, steps = 8 * sizes.embedded_batch, sizes.embedded_steps
    variants = {
        "palimpsest_equal_steps": ({"steps": steps}, sizes.embedded_batch),
        "palimpsest_third_of_steps": ({"steps": -(-steps // 3), "method": METHOD}, sizes.embedded_batch),
        "palimpsest_third_of_steps_batch_8x": ({"steps": -(-steps // 3), "method": METHOD}, many),
        "palimpsest_4_steps": ({"steps": STUDENT_STEPS, "model": STUDENT}, sizes.embedded_batch),
    }
    contestants = {}
    for name, (params, batch) in variants.items():
        operator = _loaded(DiffusionGenerate(DiffusionGenerateParams(**params)), setting)
        make = operator_call(operator, setting.device, batch, tuple(classes))
        contestants[name] = Contestant(make, max(batch, sizes.embedded_images), batch)
    contestants["loop"] = Contestant(_flow_loop(setting.device, steps), sizes.embedded_loop_images, 1, plain=True)
    found = setting.clock().compare(contestants, "palimpsest_equal_steps")
    yield (
        "diffusion",
        {"what": "builtin:fashion-diffusion, 28 px", "steps": steps, "batch": sizes.embedded_batch, **found},
    )


def gan(setting: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
    """The operator beside one pass an image."""
    sizes, (_, classes) = setting.sizes, load_generator(FOLDER / "fashion-wgan.safetensors")
    make = operator_call(_loaded(GanSynth(GanSynthParams()), setting), setting.device, sizes.embedded_batch, classes)
    contestants = {
        "palimpsest": Contestant(make, 8 * sizes.embedded_images, sizes.embedded_batch),
        "loop": Contestant(_gan_loop(setting.device), 8 * sizes.embedded_loop_images, 1, plain=True),
    }
    found = setting.clock().compare(contestants, "palimpsest")
    yield "gan", {"what": "builtin:fashion-wgan, 28 px", "batch": sizes.embedded_batch, **found}


def _loaded(operator: Operator, setting: Setting) -> Operator:
    given = replace(read_assets(*find_files(operator, ".")), dtype=setting.half)  # type: ignore[arg-type]
    operator.load(setting.device, given)
    return operator


def _flow_loop(device: str, steps: int) -> Make:
    net, classes = load_flow(FOLDER / "fashion-diffusion.safetensors")
    net = net.to(device)
    size = net.shape.size_px

    @torch.inference_mode()
    def make(numbers: range, sources: Pixels | None) -> None:  # noqa: ARG001 - of nothing
        for number in numbers:
            label = torch.tensor([number % len(classes)], device=device)
            image = torch.randn(1, 1, size, size, device=device)
            for left in range(steps, 0, -1):
                image = image - net(image, torch.tensor([left / steps], device=device), label) / steps
            ((image[0, 0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()

    return make


def _gan_loop(device: str) -> Make:
    net, classes = load_generator(FOLDER / "fashion-wgan.safetensors")
    net = net.to(device)

    @torch.inference_mode()
    def make(numbers: range, sources: Pixels | None) -> None:  # noqa: ARG001 - of nothing
        for number in numbers:
            latent = torch.randn(1, net.shape.latent, device=device)
            image = net(latent, torch.tensor([number % len(classes)], device=device))
            ((image[0, 0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()

    return make
