"""Style transfer by optimising the pixels of each image (Gatys, Ecker & Bethge 2016).

Paper: "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016. All losses come one a sample, so that
images optimised together never mix. Letters as in the paper: N_l filters and M_l positions in layer l; F features of
the image being made, P those of the content; G and A the Gram matrices of the image and of the style.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.networks.style.vgg import Vgg

CONTENT_LAYER = "relu4_2"
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def gram(features: Tensor) -> Tensor:
    """Gram matrices F F^T [N, N_l, N_l], summed over positions, of features [N, N_l, h, w] (equation 3)."""
    flat = features.flatten(2)
    return flat @ flat.mT


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Half the sum of squared distances [N] of features [N, N_l, h, w] to those of the content (equation 1)."""
    return (features - target).square().sum(dim=(1, 2, 3)) / 2


def style_layer_loss(features: Tensor, target: Tensor) -> Tensor:
    """E_l [N] = sum (G - A)^2 / (4 N_l^2 M_l^2) of features [N, N_l, h, w] (equation 4).

    target: A / M_l [N or 1, N_l, N_l], from `style_target`. With each Gram matrix divided by its own M_l the style
    image may have another size than the content; at equal sizes this is the paper's equation.
    """
    filters = features.shape[1]
    return (style_target(features) - target).square().sum(dim=(1, 2)) / (4 * filters**2)


def style_target(features: Tensor) -> Tensor:
    """Gram matrices divided by the number of positions, [N, N_l, N_l], of features [N, N_l, h, w]."""
    return gram(features) / (features.shape[2] * features.shape[3])


@dataclass(frozen=True)
class Targets:
    """What N images are to become: content features [N, N_l, h, w], and A / M_l [N, N_l, N_l] of each style layer."""

    content: Tensor
    styles: Sequence[Tensor]

    def part(self, rows: slice) -> "Targets":
        """Return the targets of the images in a slice."""
        return Targets(self.content[rows], [style[rows] for style in self.styles])


class Objective:
    """The loss of equation 7, alpha = 1, over one network; equal weights w_l = 1 / (number of style layers)."""

    def __init__(self, network: Vgg, style_layers: Sequence[str]) -> None:
        self._network = network
        self._style_layers = tuple(style_layers)
        self._layers = tuple(sorted({*style_layers, CONTENT_LAYER}))  # by name is by depth

    def style_targets(self, images: Tensor) -> list[Tensor]:
        """A / M_l of each style layer, [N, N_l, N_l], of style images [N, 3, H, W] in [0, 1]."""
        return [style_target(features) for features in self._network(images, self._style_layers)]

    def content_target(self, images: Tensor) -> Tensor:
        """Features [N, N_l, h, w] of content images [N, 3, H, W] in [0, 1]."""
        found: Tensor = self._network(images, [CONTENT_LAYER])[0]
        return found

    def losses(self, images: Tensor, targets: Targets, style_weight: Tensor) -> Tensor:
        """L_content + beta * L_style [N] of images [N, 3, H, W]; style_weight is beta [N] (equations 5 and 7)."""
        found = dict(zip(self._layers, self._network(images, self._layers), strict=True))
        content = content_loss(found[CONTENT_LAYER], targets.content)
        layers = zip(self._style_layers, targets.styles, strict=True)
        style = sum((style_layer_loss(found[layer], target) for layer, target in layers), torch.zeros_like(content))
        return content + style_weight * style / len(self._style_layers)

    def evaluation(
        self, targets: Targets, style_weight: Tensor, shape: Sequence[int], part: int
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """What an optimiser calls: images flattened to [N, D] -> their losses [N] and gradients [N, D].

        Args:
            shape: (3, H, W) of an image.
            part: images a call of the network. With 1, an image's sums have the same order in any batch.
        """

        def evaluate(flat: Tensor) -> tuple[Tensor, Tensor]:
            losses, gradients = [], []
            for first in range(0, len(flat), part):
                rows = slice(first, first + part)
                images = flat[rows].reshape(-1, *shape).detach().contiguous(memory_format=torch.channels_last)
                with torch.enable_grad():
                    images.requires_grad_()
                    found = self.losses(images, targets.part(rows), style_weight[rows])
                    (gradient,) = torch.autograd.grad(found.sum(), images)
                losses.append(found.detach())
                gradients.append(gradient.flatten(1))
            return torch.cat(losses), torch.cat(gradients)

        return evaluate
