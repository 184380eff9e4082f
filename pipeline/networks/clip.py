"""A model that embeds images and texts in one space (CLIP, SigLIP), from a folder in the layout of transformers."""

import warnings
from collections.abc import Sequence
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

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}  # else transformers asks for consent
FIXED_LENGTH = ("siglip",)  # kinds that were trained on texts padded to full length


class Preprocessing:
    """Preprocessing of images for a model, by the image processor that its folder names; without one as for CLIP.

    Each image is sized by itself: the same in any batch. Raises ModelError where the processor is not known, or makes
    images of another size than the model's.
    """

    def __init__(self, folder: Path, side_px: int) -> None:
        from transformers import AutoImageProcessor, CLIPImageProcessor

        by_name: Any = AutoImageProcessor
        try:
            if any((folder / name).is_file() for name in PROCESSOR_FILES):
                self._processor = by_name.from_pretrained(folder, backend="torchvision", **_LOCAL)
            else:
                square = {"height": side_px, "width": side_px}
                self._processor = CLIPImageProcessor(size={"shortest_edge": side_px}, crop_size=square)
            self._black, self._white = self._made(torch.stack([torch.zeros(3, 2, 3), torch.ones(3, 2, 3)]))
        except Exception as error:  # the library raises what its parts raise
            raise ModelError(f"model {folder}: its image processor does not work: {one_line(error, 200)}") from None
        if self._black.shape != (3, side_px, side_px):
            raise ModelError(f"model {folder}: its image processor makes {tuple(self._black.shape)}, not {side_px} px")

    def __call__(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> [N, 3, side, side], normalised; clamped before, as bicubic resizing overshoots.

        In floats, so that gradients pass through; resizing does not round to grey levels.
        """
        black, white = self._black.to(images.device), self._white.to(images.device)
        return self._made(images).clamp(black, white)

    def _made(self, images: Tensor) -> Tensor:
        how = {"do_rescale": False, "input_data_format": "channels_first", "return_tensors": "pt"}
        made: Tensor = self._processor(images=images, **how)["pixel_values"]
        return made


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
        self._prepare = Preprocessing(folder, int(config.vision_config.image_size))

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
        """Return embeddings [N, D] of unit length; grey counts as equal RGB."""
        rgb = np.array(np.broadcast_to(pixels, (*pixels.shape[:3], 3)), order="C")
        images = torch.from_numpy(rgb).to(self._device).permute(0, 3, 1, 2).float().div(255)
        return _unit(self._model.get_image_features(pixel_values=self._prepare(images)))

    def _text(self, text: str) -> Tensor:
        """Return the embedding [D] of a text, of unit length; embedded alone, others do not change it."""
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
            model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **_LOCAL)
            tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
    except Exception as error:  # the library raises what its parts raise
        raise ModelError(f"model {folder}: no CLIP model: {one_line(error, 200)}") from None
    if not (hasattr(model, "get_text_features") and hasattr(model, "get_image_features")):
        raise ModelError(f"model {folder}: a {type(model).__name__} has no text and image features; name a CLIP model")
    return model.eval().requires_grad_(False), tokenizer


def _unit(features: Any) -> Tensor:
    """Return features scaled to unit length; transformers 5 wraps them in an output object."""
    return F.normalize(getattr(features, "pooler_output", features), dim=-1)
