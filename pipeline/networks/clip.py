"""A model that embeds images and texts in one space (CLIP and its kin), from a folder in the layout of transformers."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.contracts import Pixels
from pipeline.errors import ModelError
from pipeline.messages import one_line
from pipeline.model_files.folders import read_json

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's own
FIXED_LENGTH = ("siglip",)  # kinds that were trained on texts padded to full length


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its images: the shorter side, then a crop, or both sides stretched; then mean and deviation."""

    side_px: int
    stretch: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path, side_px: int) -> "Preprocessing":
        """From `preprocessor_config.json`; as CLIP was trained where there is none."""
        found = read_json(folder / "preprocessor_config.json")
        size = found.get("size", {})
        stretch = isinstance(size, Mapping) and "height" in size and not found.get("do_center_crop", False)
        return cls(side_px, stretch, tuple(found.get("image_mean", MEAN)), tuple(found.get("image_std", STD)))

    def __call__(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> [N, 3, side, side], normalised. Bicubic, low-passed on the way down."""
        height, width = images.shape[-2:]
        side = self.side_px
        short = min(height, width)
        size = (side, side) if self.stretch else (side * height // short, side * width // short)
        if size != (height, width):
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        images = images[..., top : top + side, left : left + side]
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std


class TextImageModel:
    """Embeds texts, each once and by itself, and images in batches. On `device`, in float32.

    Raises ModelError where the folder holds no such model.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._device = device
        self._model, self._tokenizer = _load(folder)
        self._model.to(device)
        self._cache: dict[str, Tensor] = {}
        config = self._model.config
        self._fixed = str(config.model_type).startswith(FIXED_LENGTH)
        self._max_tokens = int(config.text_config.max_position_embeddings)
        self._prepare = Preprocessing.read(folder, int(config.vision_config.image_size))

    def cosines(self, images: Pixels, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the cosine [N, M] of images [N, H, W, 1 or 3] uint8 with M texts, -1 to 1."""
        with torch.inference_mode():
            embedded = torch.stack([self._text(text) for text in texts])
            found: npt.NDArray[np.float32] = (self._images(images) @ embedded.T).float().cpu().numpy()
        return found

    def similarity_to_text(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Return the cosine [N] of each image of [N, 3, H, W] in [0, 1] with its own text; gradients pass through."""
        embedded = torch.stack([self._text(text) for text in texts])
        return (_unit(self._model.get_image_features(pixel_values=self._prepare(images))) * embedded).sum(dim=1)

    def _images(self, pixels: Pixels) -> Tensor:
        """Unit vectors [N, D]; grey counts as equal RGB."""
        rgb = np.array(np.broadcast_to(pixels, (*pixels.shape[:3], 3)), order="C")
        images = torch.from_numpy(rgb).to(self._device).permute(0, 3, 1, 2).float().div(255)
        return _unit(self._model.get_image_features(pixel_values=self._prepare(images)))

    def _text(self, text: str) -> Tensor:
        """A unit vector [D]: a text that is embedded alone does not depend on its neighbours' lengths."""
        if text not in self._cache:
            words = self._tokenizer(
                [text],
                padding="max_length" if self._fixed else False,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
            taken = {name: words[name].to(self._device) for name in ("input_ids", "attention_mask") if name in words}
            with torch.inference_mode(False), torch.no_grad():  # gradients of images may need it later
                self._cache[text] = _unit(self._model.get_text_features(**taken))[0]
        return self._cache[text]


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    known = read_json(folder / "config.json")
    if not ("text_config" in known and "vision_config" in known):
        raise ModelError(f"model {folder}: its config.json names no text and image networks; name a CLIP model")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}  # unsaid, it would ask
            model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **own)
            tokenizer = AutoTokenizer.from_pretrained(folder, **own)
    except Exception as error:  # the library raises what its parts raise
        raise ModelError(f"model {folder}: no CLIP model: {one_line(error, 200)}") from None
    if not (hasattr(model, "get_text_features") and hasattr(model, "get_image_features")):
        raise ModelError(f"model {folder}: a {type(model).__name__} has no text and image features; name a CLIP model")
    return model.eval().requires_grad_(False), tokenizer


def _unit(features: Any) -> Tensor:
    """Of what a model answers: transformers 5 wraps the features."""
    return F.normalize(getattr(features, "pooler_output", features), dim=-1)
