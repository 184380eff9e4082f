"""Progressive distillation on the straight path: one long Euler step learns where several short ones of a teacher end.

Salimans & Ho 2022, "Progressive Distillation for Fast Sampling of Diffusion Models", arXiv:2202.00512, section 3,
algorithm 2 and appendix G; the path is that of `flow_matching.py` (alpha_t = 1 - t, sigma_t = t), where a DDIM step is
an Euler step and the paper's target of the image, x~ = (z'' - (t''/t) z) / (1 - t''/t), is z - t u with the mean
velocity u below. Guidance folded into the student: Meng et al. 2023, "On Distillation of Guided Diffusion Models",
arXiv:2210.03142, section 3.1, with one fixed guidance.

z is a noisy image at time t (1: noise, 0: image), z'' the teacher's image at t'' = t - 1/steps, all [N, C, S, S].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.networks.generators.flow_matching import Velocity
from pipeline.networks.generators.samplers import guided_velocity

METHODS = ("euler", "heun")
_END = 1e-6  # times this close to 0 are the image


def grid_times(uniform: Tensor, steps: int) -> Tensor:
    """Times [N] at which a student of `steps` steps is evaluated: 1/steps to 1, equally often (algorithm 2: i / N).

    uniform: [N] in [0, 1).
    """
    return (uniform * steps).floor().clamp(0, steps - 1).add(1) / steps


def mean_velocity(
    teacher: Velocity,
    noisy: Tensor,
    times: Tensor,
    labels: Tensor,
    steps: int,
    parts: int,
    guidance: Tensor | float = 1.0,
    method: str = "euler",
) -> Tensor:
    """Return the target velocity [N, C, S, S] of the student: one step of 1/steps then ends where the teacher's end.

    u = (z - z'') steps: the mean of the velocities of the teacher's short steps, as these are equally long.

    Args:
        times: [N], each at least 1/steps.
        labels: [N] int64, -1 = no class.
        steps: of the student, from noise to image.
        parts: equal steps of the teacher for one of the student's; the paper takes 2.
        guidance: of the teacher, one value or [N]; what has no class is not guided.
        method: `euler`, or `heun` (twice the calls, second order; Euler's where a step ends at the image).

    Raises:
        ValueError: an unknown method, or less than one part.
    """
    if method not in METHODS or parts < 1:
        raise ValueError(f"method {method!r} with {parts} parts; known: {', '.join(METHODS)}, with 1 part or more")
    strength = torch.as_tensor(guidance, dtype=torch.float32, device=noisy.device).expand(len(noisy))
    length = 1 / (steps * parts)
    state, mean = noisy, torch.zeros_like(noisy)
    for part in range(parts):
        now = times - part * length
        slope = guided_velocity(teacher, state, now, labels, strength)
        if method == "heun":
            after = (now - length).clamp(min=0)
            second = guided_velocity(teacher, state - length * slope, after, labels, strength)
            slope = torch.where(_as_images(after > _END), (slope + second) / 2, slope)
        state = state - length * slope
        mean = mean + slope / parts
    return mean


def trajectory(
    teacher: Velocity,
    noise: Tensor,
    labels: Tensor,
    steps: int,
    parts: int,
    guidance: Tensor | float = 1.0,
    method: str = "euler",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the teacher's trajectory from noise [N, C, S, S], at each time that the student is evaluated.

    The paper takes noisy images of the data alone, which the teacher passes through as far as it has learnt the data.

    Returns noisy images [steps * N, C, S, S], their times, and the student's velocities (see `mean_velocity`), time 1
    first; labels [N] are to be repeated `steps` times.
    """
    state, states, all_times, means = noise, [], [], []
    for left in range(steps, 0, -1):
        times = torch.full((len(noise),), left / steps, device=noise.device)
        mean = mean_velocity(teacher, state, times, labels, steps, parts, guidance, method)
        states.append(state)
        all_times.append(times)
        means.append(mean)
        state = state - mean / steps
    return torch.cat(states), torch.cat(all_times), torch.cat(means)


def distillation_loss(student: Velocity, noisy: Tensor, times: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared distance of the student's velocity to `wanted` [N, C, S, S]. Scalar.

    It is steps^2 times the squared distance between z'' and where the student's step ends: the paper's loss of the
    image (section 4), with the weight 1 / t^2 that makes an error of a step count alike at every time.
    """
    return F.mse_loss(student(noisy, times, labels), wanted)


def _as_images(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
