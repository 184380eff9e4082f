"""The Gaussian chain of DDPM: noise added step by step, the same in one jump, and its place on the straight path.

Paper: Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models", arXiv:2006.11239, section 2. Published
pipelines count their steps along this chain, the embedded model along a straight path: `straight_time` translates.
"""

import math

import torch
from torch import Tensor


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """beta_1 ... beta_T, the variance each step adds: [T] float64 (section 4: 1e-4 to 0.02 in 1000 steps)."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def signal_shares(betas: Tensor) -> Tensor:
    """alpha-bar_t, the share of the variance that is still image after each step: [T] (above equation 4)."""
    return (1 - betas).cumprod(dim=0)


def one_step(state: Tensor, noise: Tensor, beta: float) -> Tensor:
    """x_t from x_(t-1): sqrt(1 - beta) x_(t-1) + sqrt(beta) epsilon (equation 2)."""
    return math.sqrt(1 - beta) * state + math.sqrt(beta) * noise


def jump(images: Tensor, noise: Tensor, share: float) -> Tensor:
    """x_t from x_0 at once: sqrt(alpha-bar_t) x_0 + sqrt(1 - alpha-bar_t) epsilon (equation 4)."""
    return math.sqrt(share) * images + math.sqrt(1 - share) * noise


def straight_time(share: Tensor) -> Tensor:
    """Time t in [0, 1] of the straight path (1 - t) x_0 + t epsilon with the signal-to-noise ratio of alpha-bar_t."""
    noise, signal = (1 - share).sqrt(), share.sqrt()
    return noise / (noise + signal)
