"""Samplers of flow matching: Euler, Heun and Adams-Bashforth, as functions of noise that the caller draws.

Times run from 1 (noise) to 0 (image) in equal steps, as in `flow_matching.py`. Guidance g moves the velocity away from
the one without a class: v = v_free + g (v_class - v_free) (Ho & Salimans 2022, equation 6, with g = 1 + w); 1 is none.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.networks.generators.flow_matching import Velocity, interpolate_to_noise
from pipeline.networks.generators.unet import NULL_LABEL

METHODS = ("euler", "heun", "adams")

CleanImageGuidance = Callable[[Tensor], Tensor]
"""Predicted clean images [N, C, S, S] -> the change to add to each, of the same shape."""


def guided_velocity(net: Velocity, images: Tensor, times: Tensor, labels: Tensor, guidance: Tensor) -> Tensor:
    """Velocity with guidance [N], in one call of the network; rows with guidance 1 or no class cost nothing more."""
    rows = ((guidance != 1) & (labels != NULL_LABEL)).nonzero()[:, 0]
    if not len(rows):
        return net(images, times, labels)
    free = torch.full_like(rows, NULL_LABEL)
    both = net(torch.cat([images, images[rows]]), torch.cat([times, times[rows]]), torch.cat([labels, free]))
    named, unnamed = both[: len(images)].clone(), both[len(images) :]
    named[rows] = unnamed + guidance[rows].view(-1, 1, 1, 1) * (named[rows] - unnamed)
    return named


def sample(
    net: Velocity,
    noise: Tensor,
    labels: Tensor,
    steps: int,
    guidance: Tensor | float = 1.0,
    method: str = "euler",
    text_guidance: CleanImageGuidance | None = None,
) -> Tensor:
    """Images [N, C, S, S], about [-1, 1], from standard normal noise of that shape.

    Args:
        labels: [N] int64, -1 = no class.
        steps: equal steps in time; `euler` and `adams` call the network once a step, `heun` twice (once in the last).
        guidance: one value, or one a sample [N].
        method: `euler`; `heun` (second order; Karras et al. 2022, algorithm 1, last step Euler's); or `adams` (second
            order from the slope before: Adams & Bashforth's two-step rule, first step Euler's).
        text_guidance: a change added to the clean images that the network predicts; None: no change.
    """
    return _integrate(net, noise, labels, steps, steps, guidance, method, text_guidance)


def edit(
    net: Velocity,
    images: Tensor,
    noise: Tensor,
    labels: Tensor,
    steps: int,
    run: int,
    guidance: Tensor | float = 1.0,
    method: str = "euler",
    masks: Tensor | None = None,
    text_guidance: CleanImageGuidance | None = None,
) -> Tensor:
    """Images [N, C, S, S] redrawn from a noisy version of themselves: the last `run` of `steps` (SDEdit).

    Meng et al. 2022, "SDEdit", arXiv:2108.01073, algorithm 1, on the straight path: start at t = run / steps. With
    masks, algorithm 2: after every step, what may not change is put back on its own path, and `adams` is Euler's.

    Args:
        masks: [N, 1, S, S], 1 where images may change, else 0.
    """
    times = torch.full((len(images),), run / steps, device=images.device)
    start = interpolate_to_noise(images, noise, times)
    if masks is None:
        return _integrate(net, start, labels, steps, run, guidance, method, text_guidance)
    for left in range(run, 0, -1):
        moved = _integrate(net, start, labels, steps, left, guidance, method, text_guidance, until=left - 1)
        start = masks * moved + (1 - masks) * interpolate_to_noise(
            images, noise, times.new_full(times.shape, (left - 1) / steps)
        )
    return start


def _velocity(
    net: Velocity,
    state: Tensor,
    times: Tensor,
    labels: Tensor,
    guidance: Tensor,
    text_guidance: CleanImageGuidance | None,
) -> Tensor:
    """Return the velocity with classifier-free and text guidance: v = epsilon - x_0, so moving x_0 by t d adds -d."""
    velocity = guided_velocity(net, state, times, labels, guidance)
    return velocity if text_guidance is None else velocity - text_guidance(state - times.view(-1, 1, 1, 1) * velocity)


def _integrate(
    net: Velocity,
    state: Tensor,
    labels: Tensor,
    steps: int,
    run: int,
    guidance: Tensor | float,
    method: str,
    text_guidance: CleanImageGuidance | None,
    until: int = 0,
) -> Tensor:
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not known; known: {', '.join(METHODS)}")
    count = len(state)
    strength = torch.as_tensor(guidance, dtype=torch.float32, device=state.device).expand(count)
    before: Tensor | None = None
    for left in range(run, until, -1):
        now = torch.full((count,), left / steps, device=state.device)
        velocity = _velocity(net, state, now, labels, strength, text_guidance)
        if method == "heun" and left > 1:
            after = torch.full((count,), (left - 1) / steps, device=state.device)
            moved = (velocity + _velocity(net, state - velocity / steps, after, labels, strength, text_guidance)) / 2
        elif method == "adams" and before is not None:
            moved = 1.5 * velocity - 0.5 * before
        else:
            moved = velocity
        before, state = velocity, state - moved / steps
    return state
