"""Text guidance by CLIP: the clean images that a network predicts are moved towards their texts.

Bansal et al. 2023, "Universal Guidance for Diffusion Models", arXiv:2302.07121, forward guidance: the criterion (here
the cosine of a CLIP model) is evaluated at the predicted clean image at every step. Dhariwal & Nichol 2021, "Diffusion
Models Beat GANs on Image Synthesis", arXiv:2105.05233, section 4.2: its gradient is added to the network's output. Two
things differ from the papers. The gradient is taken at the predicted clean image and not through the network, which
would double the cost. Of the gradient only the direction counts, so that a scale means the same for every model.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.diffusion.schedulers import is_flow_matching
from pipeline.networks.clip import TextImageModel
from pipeline.networks.pixel_tensors import with_channels

_MIN_RMS = 1e-20  # of a gradient's root mean square; below it there is no direction


class TextGuidance:
    """Moves predicted clean images towards their `texts`, by at most `scale` over all steps together.

    `scale` is a root mean square: of pixels in [-1, 1], or of latents with a deviation of about 1.
    """

    def __init__(self, model: TextImageModel, scale: float) -> None:
        self._model, self._scale = model, scale
        self.texts: Sequence[str] = ()  # of the images in the current call; an image with an empty text is not moved
        self._decode: Callable[[Tensor], Tensor] | None = None

    def __call__(self, clean: Tensor) -> Tensor:
        """Return the move of each predicted clean image or latent [N, ...], float32; 0 where its text is empty.

        The move is `scale` times a gradient of unit root mean square, and does not depend on the other images.
        """
        rows = [row for row, text in enumerate(self.texts) if text]
        moved = torch.zeros_like(clean, dtype=torch.float32)
        if rows:
            moved[rows] = self._scale * self._direction(clean[rows], [self.texts[row] for row in rows])
        return moved

    def _direction(self, clean: Tensor, texts: Sequence[str]) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            point = clean.detach().float().clone().requires_grad_()
            images = point if self._decode is None else self._decode(point)
            whole = with_channels(images, 3).add(1).div(2)
            (slope,) = torch.autograd.grad(self._model.similarity_to_text(whole, texts).sum(), point)
        size = slope.square().mean(dim=tuple(range(1, slope.dim())), keepdim=True).sqrt()
        return torch.where(size > _MIN_RMS, slope / size, 0.0)  # NaN counts as no direction

    def attach(self, scheduler: Any, decode: Callable[[Tensor], Tensor] | None) -> None:
        """Apply this guidance in every `step` of a diffusers scheduler. `decode` turns clean latents into images."""
        self._decode = decode
        plain = scheduler.step

        @functools.wraps(plain)
        def step(model_output: Tensor, timestep: Any, sample: Tensor, *more: Any, **named: Any) -> Any:
            return plain(self._guided(scheduler, model_output, timestep, sample), timestep, sample, *more, **named)

        scheduler.step = step

    def _guided(self, scheduler: Any, answer: Tensor, timestep: Any, sample: Tensor) -> Tensor:
        """Return the network's output changed so that the predicted clean image moves by guidance times noise level."""
        of_sample, of_answer, noise = clean_image_coefficients(scheduler, timestep)
        channels = sample.shape[1]
        own = answer[:, :channels].float()  # some answer with variances beside
        clean = of_sample * sample.float() + of_answer * own
        own = own + noise * self(clean) / of_answer
        return torch.cat([own.to(answer.dtype), answer[:, channels:]], dim=1)


def clean_image_coefficients(scheduler: Any, timestep: Any) -> tuple[float, float, float]:
    """Return (a, b, noise): the predicted clean image is a · sample + b · output; noise in (0, 1] is its share.

    For outputs that are the noise, the velocity (Salimans & Ho 2022, arXiv:2202.00512, appendix D) or the clean image;
    samples keep their variance (DDPM), grow with it (Karras et al. 2022, arXiv:2206.00364, table 1, VE) or lie on a
    straight path.
    """
    if getattr(scheduler, "step_index", 0) is None:
        scheduler._init_step_index(timestep)
    kind = scheduler.config.get("prediction_type", "epsilon")
    if is_flow_matching(scheduler):
        level = float(scheduler.sigmas[scheduler.step_index])
        return 1.0, -level, level
    if float(getattr(scheduler, "init_noise_sigma", 1.0)) != 1.0:
        level = float(scheduler.sigmas[scheduler.step_index])
        whole = (level**2 + 1) ** 0.5
        ways = {"epsilon": (1.0, -level), "v_prediction": (1 / whole**2, -level / whole)}
        return *ways.get(kind, (0.0, 1.0)), level / whole
    kept = float(scheduler.alphas_cumprod[int(timestep)])
    signal, noise = kept**0.5, (1 - kept) ** 0.5
    ways = {"epsilon": (1 / signal, -noise / signal), "v_prediction": (signal, -noise)}
    return *ways.get(kind, (0.0, 1.0)), noise
