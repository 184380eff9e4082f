"""Make new images of a class in one pass of a WGAN-GP generator (Gulrajani et al. 2017)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Operator, Parameters, Requirements
from pipeline.errors import RowError
from pipeline.noise import Noise
from pipeline.requirements import ClassRequirements
from pipeline.seeding import generators


class GanSynthParams(Parameters):
    """Which generator, and how far from its mean image it may go."""

    model: str = Field("builtin:fashion-wgan", description="builtin:NAME or a file made by `train gan`")
    truncation: float = Field(
        1.0, gt=0, le=1, description="scale of the latent: 1 = full variety; less = closer to the mean of the class"
    )
    force: bool = Field(
        False, exclude=True, description="run an embedded model beside images that it was not made for, too"
    )


class GanSynth(Operator):
    """New images [N, S, S, C] uint8 of the generator's own size and channels (builtin:fashion-wgan: 28 px, grey).

    Each image is of its sample's label; where there is none (-1) a class is drawn evenly, and the image gets its label
    (-1 where the data set has no such class). Draws `class_index` (the model's; -1 where it has no such class) and
    `truncation`; the latent is the sample's own noise, scaled. A label the model does not know is the RowError
    `unknown_class`; an image that is not finite or all black is rejected as `non_finite` or `black`. `load` raises
    ModelError for a file of anything else.
    """

    name = "gan_synth"
    version = 2  # 1 left drawn classes without their label
    source = "Gulrajani et al. 2017, Improved Training of Wasserstein GANs"
    Params = GanSynthParams
    micro_batch = 64
    generative = True
    digital_source_type = "trainedAlgorithmicMedia"
    cpu_s_per_megapixel = 1.5
    gpu_s_per_megapixel = 0.02
    params: GanSynthParams

    def requirements(self) -> Requirements:
        """The generator's file."""
        return Requirements(
            models={"model": self.params.model},
            classes=ClassRequirements(model="model", draws_class=True, reads_names=True),
        )

    def load(self, device: str, assets: Assets) -> None:
        """Load the generator."""
        from pipeline.networks.generators.wgan import load_generator

        net, self._classes = load_generator(assets.models["model"])
        self._net = net.to(device)
        self._device, self._dtype = device, assets.dtype

    def draw(self, batch: ImageBatch) -> Draws:
        """The class of every sample; one drawn evenly where it has none."""
        indexes, errors = self._indexes(batch)
        count = self._net.shape.classes
        for row, generator in enumerate(generators(batch.seeds)):
            if batch.labels[row] < 0 and row not in errors:
                indexes[row] = int(generator.integers(count))
        return Draws({"class_index": indexes, "truncation": [self.params.truncation] * len(batch)})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """One pass of the generator."""
        import torch

        from pipeline.networks import pixel_tensors
        from pipeline.networks.generators.wgan import truncated
        from pipeline.networks.precision import autocast

        with torch.inference_mode():
            latents = noise.normal(self._net.shape.latent).to(self._device)
            scale = torch.tensor(draws.columns["truncation"], dtype=torch.float32, device=self._device)
            labels = torch.tensor(draws.columns["class_index"], dtype=torch.int64, device=self._device)
            with autocast(self._device, self._dtype):
                made = self._net(truncated(latents, scale), labels.clamp(min=0))  # rows with errors are thrown away
            pixels = pixel_tensors.to_pixels(made)
            rejected = pixel_tensors.flaws(made, pixels)
        classes = self._labels(batch, draws)
        return Applied(pixels.numpy(), classes, rejected=rejected, errors=self._indexes(batch)[1])

    def _labels(self, batch: ImageBatch, draws: Draws) -> npt.NDArray[np.int64]:
        """The data set's class of every sample; of a drawn one by name, or by index where one side has no names."""
        drawn = [int(index) for index in draws.columns["class_index"]]
        if batch.classes and self._classes:
            of_model, _ = self._class_indexes(range(len(batch.classes)), batch.classes)
            places = {index: place for place, index in reversed(list(enumerate(of_model)))}
            drawn = [places.get(index, -1) if index >= 0 else -1 for index in drawn]
        elif batch.classes:
            drawn = [index if index < len(batch.classes) else -1 for index in drawn]
        return np.where(batch.labels < 0, np.array(drawn, np.int64), batch.labels)

    def _indexes(self, batch: ImageBatch) -> tuple[list[int], dict[int, RowError]]:
        return self._class_indexes(batch.labels.tolist(), batch.classes)

    def _class_indexes(self, labels: Sequence[int], names: Sequence[str]) -> tuple[list[int], dict[int, RowError]]:
        from pipeline.model_files.class_labels import class_indexes

        return class_indexes(labels, names, self._classes, self._net.shape.classes)
