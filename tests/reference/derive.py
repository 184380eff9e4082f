"""The published arithmetic once more, in NumPy alone: what the torch code of the style methods has to come to.

    python -m tests.reference.derive

writes one .npz a method beside this file: drawn inputs and weights, and what the equations make of them, in float64.
Written from the papers and shared with nothing in `pipeline/`; plain loops over kernel places, no convolution library.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FOLDER = Path(__file__).parent
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_STD = np.array([0.229, 0.224, 0.225])
VGG19_BLOCKS = (2, 2, 4, 4)
VGG_WIDTHS = (3, 4, 5, 6)  # of a narrow one
JOHNSON_WIDTHS, JOHNSON_BLOCKS = (3, 4, 5), 2


# ---- layers ----------------------------------------------------------------------------------------------------------


def convolve(images: Array, weight: Array, bias: Array, stride: int = 1, padding: str = "reflect") -> Array:
    """Cross-correlation [N, I, H, W] * [O, I, k, k] after padding by k // 2; `padding` as numpy.pad's mode."""
    side = weight.shape[2]
    margin = side // 2
    padded = np.pad(images, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode=padding)
    height = (padded.shape[2] - side) // stride + 1
    width = (padded.shape[3] - side) // stride + 1
    made = np.zeros((len(images), len(weight), height, width))
    for row in range(side):
        for column in range(side):
            window = padded[:, :, row : row + stride * height : stride, column : column + stride * width : stride]
            made += np.einsum("oi,nihw->nohw", weight[:, :, row, column], window)
    return made + bias[None, :, None, None]


def instance_norm(images: Array, scale: Array, shift: Array) -> Array:
    """Ulyanov et al. 2016: each channel of each image by its own mean and biased variance, 1e-5 inside the root."""
    mean = images.mean(axis=(2, 3), keepdims=True)
    variance = ((images - mean) ** 2).mean(axis=(2, 3), keepdims=True)
    return (images - mean) / np.sqrt(variance + 1e-5) * scale[None, :, None, None] + shift[None, :, None, None]


def rectify(signal: Array) -> Array:
    return np.maximum(signal, 0)


def pooled(signal: Array, reduce: Callable[..., Array]) -> Array:
    """2 x 2 blocks reduced; an odd last row or column is left out."""
    height, width = signal.shape[2] // 2, signal.shape[3] // 2
    blocks = signal[:, :, : 2 * height, : 2 * width].reshape(*signal.shape[:2], height, 2, width, 2)
    return reduce(blocks, axis=(3, 5))


# ---- Huang & Belongie 2017 -------------------------------------------------------------------------------------------


def adain_statistics(features: Array) -> tuple[Array, Array]:
    """Mean, and root of the unbiased variance plus 1e-5, over positions."""
    flat = features.reshape(*features.shape[:2], -1)
    mean = flat.sum(axis=2) / flat.shape[2]
    variance = ((flat - mean[:, :, None]) ** 2).sum(axis=2) / (flat.shape[2] - 1)
    return mean[:, :, None, None], np.sqrt(variance + 1e-5)[:, :, None, None]


def derive_adain(rng: np.random.Generator) -> dict[str, Array]:
    content, style = rng.uniform(0.1, 0.9, (2, 3, 16, 24)), rng.normal(0.5, 0.1, (2, 3, 4, 9))
    alpha = np.array([0.3, 0.8])
    (content_mean, content_std), (style_mean, style_std) = adain_statistics(content), adain_statistics(style)
    moved = (content - content_mean) / content_std * style_std + style_mean
    share = alpha[:, None, None, None]
    return {
        "content": content,
        "style": style,
        "alpha": alpha,
        "style_mean": style_mean,
        "style_std": style_std,
        "moved": moved,
        "mixed": share * moved + (1 - share) * content,
    }


# ---- Gatys, Ecker & Bethge 2016 --------------------------------------------------------------------------------------


def gram(features: Array) -> Array:
    """Equation 3."""
    flat = features.reshape(*features.shape[:2], -1)
    return np.einsum("nik,njk->nij", flat, flat)


def derive_gatys(rng: np.random.Generator) -> dict[str, Array]:
    features, content = rng.normal(0.5, 1, (2, 4, 5, 6)), rng.normal(0.5, 1, (2, 4, 5, 6))
    same, other = rng.normal(0, 1, (2, 4, 5, 6)), rng.normal(0, 1, (2, 4, 7, 3))
    filters, positions = 4, 30
    difference = gram(features) - gram(same)
    flat = features.reshape(2, filters, positions)
    slope = np.einsum("nij,njk->nik", difference, flat) / (filters**2 * positions**2)  # equation 6, before the ReLU
    unequal = gram(features) / positions - gram(other) / 21
    return {
        "features": features,
        "content": content,
        "style": same,
        "style_of_another_size": other,
        "gram": gram(features),
        "content_loss": ((features - content) ** 2).sum(axis=(1, 2, 3)) / 2,
        "content_gradient": features - content,  # equation 2, before the ReLU
        "style_loss": (difference**2).sum(axis=(1, 2)) / (4 * filters**2 * positions**2),
        "style_gradient": slope.reshape(features.shape),
        "style_loss_of_another_size": (unequal**2).sum(axis=(1, 2)) / (4 * filters**2),
    }


def vgg_layers(state: Mapping[str, Array], images: Array, reduce: Callable[..., Array]) -> dict[str, Array]:
    """Every rectified layer of the VGG19 that `state` (torchvision's names) has weights of."""
    signal = (images - IMAGENET_MEAN[None, :, None, None]) / IMAGENET_STD[None, :, None, None]
    found, place = {}, 0
    for block, depth in enumerate(VGG19_BLOCKS, start=1):
        for number in range(1, depth + 1):
            weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
            signal = rectify(convolve(signal, weight, bias, padding="constant"))
            found[f"relu{block}_{number}"] = signal
            if f"relu{block}_{number}" == "relu4_2":
                return found
            place += 2
        signal = pooled(signal, reduce)
        place += 1
    return found


def derive_vgg(rng: np.random.Generator) -> dict[str, Array]:
    """A narrow VGG19's layers, and the whole loss of equation 7 with beta = 50 and four style layers."""
    state, place, inward = {}, 0, 3
    for width, depth in zip(VGG_WIDTHS, VGG19_BLOCKS, strict=True):
        for _ in range(depth):
            state[f"features.{place}.weight"] = rng.normal(0, np.sqrt(2 / (9 * inward)), (width, inward, 3, 3))
            state[f"features.{place}.bias"] = rng.normal(0, 0.1, width)
            inward, place = width, place + 2
        place += 1
    images, content, style = (rng.uniform(0, 1, (1, 3, 18, 21)) for _ in range(3))
    of_image, of_content, of_style = (vgg_layers(state, picture, np.max) for picture in (images, content, style))
    total = ((of_image["relu4_2"] - of_content["relu4_2"]) ** 2).sum() / 2
    for layer in ("relu1_1", "relu2_1", "relu3_1", "relu4_1"):
        filters, positions = of_image[layer].shape[1], of_image[layer].shape[2] * of_image[layer].shape[3]
        difference = gram(of_image[layer]) - gram(of_style[layer])
        total += 50 / 4 * (difference**2).sum() / (4 * filters**2 * positions**2)
    made = {"images": images, "content": content, "style": style, "loss": np.array([total])} | state
    for layer in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2"):
        made[f"max/{layer}"] = of_image[layer]
    return made | {"average/relu4_2": vgg_layers(state, images, np.mean)["relu4_2"]}


# ---- Johnson, Alahi & Fei-Fei 2016 -----------------------------------------------------------------------------------


def johnson(state: Mapping[str, Array], images: Array) -> Array:
    """The transformation network on images in [0, 255], layer after layer, not clamped."""

    def layer(signal: Array, name: str, stride: int = 1, up: int = 1) -> Array:
        signal = signal.repeat(up, axis=2).repeat(up, axis=3)
        return convolve(signal, state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"], stride)

    def normed(signal: Array, name: str) -> Array:
        return instance_norm(signal, state[f"{name}.weight"], state[f"{name}.bias"])

    signal = rectify(normed(layer(images, "conv1"), "in1"))
    signal = rectify(normed(layer(signal, "conv2", stride=2), "in2"))
    signal = rectify(normed(layer(signal, "conv3", stride=2), "in3"))
    for number in range(1, JOHNSON_BLOCKS + 1):
        inner = rectify(normed(layer(signal, f"res{number}.conv1"), f"res{number}.in1"))
        signal = normed(layer(inner, f"res{number}.conv2"), f"res{number}.in2") + signal
    signal = rectify(normed(layer(signal, "deconv1", up=2), "in4"))
    signal = rectify(normed(layer(signal, "deconv2", up=2), "in5"))
    return layer(signal, "deconv3")


def johnson_state(rng: np.random.Generator) -> dict[str, Array]:
    full, half, quarter = JOHNSON_WIDTHS
    residuals = [f"res{number}.{part}" for number in range(1, JOHNSON_BLOCKS + 1) for part in ("1", "2")]
    shapes = {"conv1": (full, 3, 9), "conv2": (half, full, 3), "conv3": (quarter, half, 3)}
    shapes |= {name.replace(".", ".conv"): (quarter, quarter, 3) for name in residuals}
    shapes |= {"deconv1": (half, quarter, 3), "deconv2": (full, half, 3), "deconv3": (3, full, 9)}
    norms = {"in1": full, "in2": half, "in3": quarter, "in4": half, "in5": full}
    norms |= {name.replace(".", ".in"): quarter for name in residuals}
    state = {}
    for name, (outward, inward, side) in shapes.items():
        state[f"{name}.conv2d.weight"] = rng.normal(0, 1 / np.sqrt(inward * side**2), (outward, inward, side, side))
        state[f"{name}.conv2d.bias"] = rng.normal(0, 0.1, outward)
    state["deconv3.conv2d.weight"] *= 60  # an image of some contrast around mid-grey
    state["deconv3.conv2d.bias"] += 127
    for name, width in norms.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = rng.uniform(0.5, 1.5, width), rng.normal(0, 0.3, width)
    return state


def derive_johnson(rng: np.random.Generator) -> dict[str, Array]:
    """The network on a size that 4 divides and on one it does not, its layers, and the losses of section 3.2."""
    state = johnson_state(rng)
    even, odd = rng.uniform(0, 255, (2, 3, 16, 12)), rng.uniform(0, 255, (1, 3, 13, 10))
    features, target = rng.normal(0, 1, (2, 4, 5, 3)), rng.normal(0, 1, (2, 4, 5, 3))
    grams = [gram(one) / (4 * 5 * 3) for one in (features, target)]
    down, across = np.diff(even / 255, axis=2), np.diff(even / 255, axis=3)
    return state | {
        "images": even,
        "images_of_odd_size": odd,
        "made": johnson(state, even),
        "made_of_odd_size": johnson(state, odd),
        "strided": convolve(even / 255, state["conv1.conv2d.weight"], state["conv1.conv2d.bias"], 2),
        "normed": instance_norm(features, np.arange(1.0, 5.0), np.arange(4.0)),
        "features": features,
        "target": target,
        "feature_loss": np.array(((features - target) ** 2).mean()),
        "style_loss": np.array(((grams[0] - grams[1]) ** 2).sum(axis=(1, 2)).mean()),
        "variation": np.array((down**2).mean() + (across**2).mean()),
    }


DERIVATIONS = {"adain": derive_adain, "gatys": derive_gatys, "vgg": derive_vgg, "johnson": derive_johnson}


def derived(name: str) -> dict[str, Array]:
    """What one method's file holds."""
    return DERIVATIONS[name](np.random.default_rng(20161101))


if __name__ == "__main__":
    for method in DERIVATIONS:
        np.savez_compressed(FOLDER / f"{method}.npz", **derived(method))
