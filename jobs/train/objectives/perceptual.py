"""The fixed network whose features a fast style network is trained against, at four depths.

A VGG from a file gives the layers of Johnson et al. 2016 (section 4.1). Without one it is random filters beside
channels that pass the image through (`jobs/train/networks/adain_encoder.py`): they describe textures, and keep the
image.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from jobs.train.networks.adain_encoder import normalise_activations, pass_through_encoder
from pipeline.networks.style import adain
from pipeline.networks.style.vgg import load_vgg

VGG_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
CONTENT_LEVEL = 1  # relu2_2, or the encoder's relu2_1
MIN_SIDE = 16  # of an image that either network can take
Levels = Callable[[Tensor], list[Tensor]]
"""Images [N, 3, H, W] in [0, 1] -> features of four levels, [N, C, H, W] to [N, C', H / 8, W / 8]."""


def vgg_levels(path: str | Path, device: torch.device) -> Levels:
    """The four levels of a VGG16 or VGG19 file of torchvision's layout. Raises ModelError for any other."""
    network = load_vgg(path, VGG_LAYERS, ("vgg16", "vgg19")).to(device)
    return lambda images: network(images, VGG_LAYERS)


def encoder_levels(width: int, seed: int, batches: list[Tensor], device: torch.device) -> Levels:
    """relu1_1 to relu4_1 of a drawn encoder, its mean activations made 1 on `batches` of images in [0, 1], on a CPU."""
    encoder = pass_through_encoder(width, 4, seed)
    normalise_activations(encoder, batches)
    encoder.requires_grad_(False).to(device, memory_format=torch.channels_last)
    return lambda images: adain.encode_levels(encoder, images)
