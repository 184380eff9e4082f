"""Redraw images along their own edges with a ControlNet: the structure stays, everything else may change."""

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Draws, ImageBatch, Requirements
from pipeline.noise import Noise
from pipeline.operators.bases.diffusion_operator import DiffusionOperator
from pipeline.operators.bases.diffusion_parameters import RedrawParameters
from pipeline.seeding import generators


class DiffusionControlParams(RedrawParameters):
    """Parameters: the pipeline, the ControlNet, edge detection, and how closely edges are followed."""

    model: str = Field(description="a folder with a text-guided diffusers pipeline, or a hub id")
    controlnet: str = Field(description="a folder with a ControlNet trained on edges, or a hub id")
    control_scale: float = Field(1.0, ge=0, le=2, description="how closely edges are followed; 0 = not at all")
    edges: Literal["canny", "sobel"] = Field("canny", description="thin lines, or every strong gradient")
    edge_range: tuple[float, float] = Field(
        (0.4, 0.8),
        description="gradient of luma in [0, 1] (black to white: about 4) from which lines go on, and from which they "
        "begin; sobel takes the second",
    )
    strength_range: tuple[float, float] = Field(
        (1.0, 1.0),
        validate_default=True,
        description="share of the steps that is run, drawn for each image among whole steps: 1 = only edges are kept",
    )

    @field_validator("edge_range")
    @classmethod
    def _edges(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 6:
            raise PydanticCustomError("edge_range", "needs two lengths within [0, 6], the smaller one first")
        return value


class DiffusionControl(DiffusionOperator):
    """Edit images of any size along their edges: [N, H, W, 1 or 3] uint8 -> [N, S, S, 3] uint8 of the pipeline's size.

    The source is stretched to the pipeline's size, its edges are found there, and the ControlNet holds the image to
    them. Draws and rejections are those of `diffusion_edit`. `load` raises ModelError for a model that is no
    text-guided pipeline, or a ControlNet that does not fit it.
    """

    name = "diffusion_control"
    version = 2  # 1 had other memory layouts, and so other sums
    source = "Zhang et al. 2023, Adding Conditional Control to Text-to-Image Diffusion Models; Canny 1986"
    Params = DiffusionControlParams
    task: ClassVar[Literal["control"]] = "control"
    micro_batch = 8
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    cpu_s_per_megapixel = 400.0  # ten steps of a Stable Diffusion 1.5 and its ControlNet
    gpu_s_per_megapixel = 2.0
    params: DiffusionControlParams

    def requirements(self) -> Requirements:
        """The pipeline, its adapter and the ControlNet."""
        found = super().requirements()
        return replace(found, models={**found.models, "controlnet": self.params.controlnet})

    def draw(self, batch: ImageBatch) -> Draws:
        """Strength, guidance and prompt of every sample."""
        return Draws(self.draw_columns(batch, batch.labels.tolist(), generators(batch.seeds)))

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:
        """Detect the edges, and redraw the image along them."""
        from pipeline.networks.edges import edges_of
        from pipeline.networks.pixel_tensors import with_size

        sources = self.sources(batch)
        edges = edges_of(with_size(sources, self._backend.size_px), self.params.edges, self.params.edge_range)
        made = self.generate(batch, draws, noise, sources=sources, edges=edges)
        return self.applied(made, {}, draws)
