"""Refuse images whose CLIP embedding does not fit the text of their class or prompt."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Assets, Gate, MadeBatch, Requirements
from pipeline.errors import JobError
from pipeline.gates.parameters import GateParameters
from pipeline.requirements import ClassRequirements

LABEL = "{label}"
MIN_SCORES = {"class": 0.2, "prompt": 0.2, "top_class": 0.0}
MIN_NAMES = {"class": 1, "prompt": 0, "top_class": 2}


class ClipParams(GateParameters):
    """Which model, which text, and how well the image must fit it."""

    renamed: ClassVar[Mapping[str, str]] = {"least": "min_score"}

    model: str = Field(
        description="a folder with a CLIP model of transformers (safetensors), or a hub id (organisation/name@revision)"
    )
    mode: Literal["class", "prompt", "top_class"] = Field(
        "class",
        description="class: the cosine with the text of the image's class; prompt: with the prompt it was made from; "
        "top_class: by how much the cosine with its own class's text beats that with any other class's",
    )
    text: str = Field("a photo of a {label}", description="the text of a class; {label} is its name")
    min_score: float | None = Field(
        None, ge=-2, le=2, description="the least score of an image that is kept; 0.2 if omitted, 0 for top_class"
    )

    @field_validator("text")
    @classmethod
    def _names_the_class(cls, value: str) -> str:
        if LABEL not in value or any(brace in value.replace(LABEL, "") for brace in "{}"):
            raise PydanticCustomError("text", "needs {label}, which stands for the class name, and no other brace")
        return value


class Clip(Gate):
    """Score how well an image fits the text of its class, or its prompt, by the cosine of their CLIP embeddings.

    [N, H, W, C] uint8 of any size. A cosine is within [-1, 1]; `top_class` scores the cosine of the own class's text
    less the best of the others', within [-2, 2]: 0 or more where the own class wins. An image without a class has no
    score (NaN) and is refused. `load` raises ModelError for a model without text and image features; `score` raises
    JobError in mode `prompt` for images that no prompt was drawn for.
    """

    name = "clip"
    version = 1
    source = "Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision"
    Params = ClipParams
    s_per_image = (0.15, 0.002)  # ViT-B/32
    params: ClipParams

    @property
    def bounds(self) -> tuple[float, float]:
        """From `min_score`, without an end."""
        return MIN_SCORES[self.params.mode] if self.params.min_score is None else self.params.min_score, np.inf

    def requirements(self) -> Requirements:
        """The model's folder."""
        min_names = MIN_NAMES[self.params.mode]
        classes = ClassRequirements(
            reads_names=min_names > 1, min_names=min_names, templates={"text": (self.params.text,)}
        )
        return Requirements(models={"model": self.params.model}, classes=classes if min_names else None)

    def load(self, device: str, assets: Assets) -> None:
        """Load both networks and the tokenizer."""
        from pipeline.networks.clip import TextImageModel

        self._model = TextImageModel(assets.models["model"], device)

    def score(self, batch: MadeBatch) -> npt.NDArray[np.float32]:
        """Return the cosine, or the margin, [N]."""
        if self.params.mode == "prompt":
            return self._model.cosines(batch.images, _given(batch.prompts)).diagonal().copy()
        scores = np.full(len(batch.images), np.nan, np.float32)
        rows = np.flatnonzero((batch.labels >= 0) & (batch.labels < len(batch.classes)))
        if len(rows) == 0:
            return scores
        texts = [self.params.text.replace(LABEL, name) for name in batch.classes]
        cosines = self._model.cosines(batch.images[rows], texts)
        own = batch.labels[rows, None] == np.arange(len(texts))
        scores[rows] = cosines[own]
        if self.params.mode == "top_class":
            scores[rows] -= np.where(own, -np.inf, cosines).max(axis=1)
        return scores


def _given(prompts: Sequence[str | None]) -> list[str]:
    given = [text for text in prompts if text is not None]
    if len(given) != len(prompts):
        raise JobError("gate clip: mode prompt scores by drawn prompts, and this branch draws none; use mode class")
    return given
