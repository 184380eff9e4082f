"""Give an image the colours and textures of another one, and keep its content (AdaIN, Huang & Belongie 2017)."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Pixels, Requirements
from pipeline.model_files.references import sha256_of
from pipeline.noise import Noise
from pipeline.operators.bases.adain_operator import AdaINOperator, NetworkParameters, encoder_file
from pipeline.operators.bases.object_mask import MASK_COLUMN, MaskParameters, ObjectMasks
from pipeline.operators.bases.reference_set import ReferenceSet
from pipeline.seeding import generators
from pipeline.validation import ShareRange

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.algorithms.color_maps import Floats
    from pipeline.networks.style.regional_adain import Statistics

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
OBJECT, BACKGROUND = "", "background_"
"""What a region's drawn columns begin with; without a mask there is one region, as for the object."""


class AdaINStyleParams(NetworkParameters, MaskParameters):
    """Parameters: the style images, their strength (alpha), the mask, and the networks."""

    styles: str = Field("builtin:styles", description="style images: folder, glob, Parquet set or builtin:styles")
    style_weights: dict[str, Weight] = Field(
        {}, description="how likely each style is drawn, by file name; 1 where not named, 0: never"
    )
    alpha_range: ShareRange = Field(
        (0.3, 0.9), description="share of the style, drawn evenly for each image: 0 = content alone, 1 = full style"
    )
    styles_per_image: int = Field(1, ge=1, le=8, description="styles mixed in one image")
    mixing_weights: tuple[Weight, ...] | None = Field(
        None,
        validate_default=True,
        description="what each of the mixed styles weighs, in proportion, in the order they are drawn in; null: drawn "
        "evenly among all weights that sum to 1",
    )
    preserve_color: bool = Field(
        False,
        description="give each style the colours of the image first (CORAL): texture changes, colour hardly; slower, "
        "as each style is then encoded again for each image",
    )
    mask: str | None = Field(
        None,
        description=f"stylise a part of the image; drawn: the object is a shape in the middle; else {MASK_COLUMN}",
    )
    keep: Literal["object", "background", "none"] = Field(
        "object",
        validate_default=True,
        description="with a mask: what stays as it is, to the byte; none: object and background take a style each",
    )
    style_size_px: int = Field(256, ge=16, le=4096, description="short side that style images are resized to")

    @field_validator("mixing_weights")
    @classmethod
    def _as_many(cls, value: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        count = info.data.get("styles_per_image")
        if value is not None and count is not None and (len(value) != count or not sum(value) > 0):
            raise PydanticCustomError(
                "mixing_weights", "needs one weight for each of styles_per_image = {count}, not all 0", {"count": count}
            )
        return value

    @field_validator("keep")
    @classmethod
    def _masked(cls, value: str, info: ValidationInfo) -> str:
        if value != "object" and info.data.get("mask") is None:
            raise PydanticCustomError("keep", "says what a mask keeps; give mask: drawn, or a column's name")
        return value


class AdaINStyle(AdaINOperator):
    """Stylise images of any size: [N, H, W, 1 or 3] uint8 -> [N, H, W, 3] uint8 RGB; grey is spread over RGB first.

    Draws `style` (first 16 hex digits of the style's sha256), `style_name` and `alpha`; the style is also a partner.
    With several styles an image these are lists, and `weights` goes with them: the decoder gets the weighted sum of the
    styled features (paper, section 7.3). `preserve_color` matches each style's colours to the image (section 7.3, by
    CORAL: `pipeline/algorithms/color_maps.py`). An image that comes out not finite is rejected as `non_finite`, black.

    With a mask, AdaIN is done inside a region, with the statistics of the content there (section 7.3, spatial control:
    `pipeline/networks/style/regional_adain.py`), and what is kept is put back to the byte. `keep: none` draws
    the same for the background (`background_style`, `background_style_name`, `background_weights`). Draws
    `object_share` or `mask_sha256`. RowErrors: `no_mask` (null or not a mask), `mask_size`, and those
    of the decoder for a mask's bytes.

    `load` raises JobError where there is no style, one that is no image, or a name in `style_weights` that is none of
    them, ModelError where the weights are of another architecture; `draw` InputError where there is no such column.
    """

    name = "adain_style"
    version = 2  # 1 did not fold up-sampling into filters, and so took other sums
    source = "Huang & Belongie 2017, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization"
    Params = AdaINStyleParams
    micro_batch = 32
    digital_source_type = "compositeWithTrainedAlgorithmicMedia"
    cpu_s_per_megapixel = 4.0  # of networks of base width 32; 1.5 at 16, 16 at the published 64
    gpu_s_per_megapixel = 0.02
    params: AdaINStyleParams

    def __init__(self, params: AdaINStyleParams) -> None:
        super().__init__(params)
        self._reference_set: ReferenceSet | None = None
        self._coloured_styles: list[tuple[Tensor, tuple[Floats, Floats]]] = []
        self._probabilities: npt.NDArray[np.float64] | None = None

    def requirements(self) -> Requirements:
        """The style images, one model file or two, and the column with masks."""
        columns = {} if self.params.mask is None else self._masks().columns
        return Requirements(models=self.model_references(), images={"styles": self.params.styles}, columns=columns)

    def load(self, device: str, assets: Assets) -> None:
        """Load both networks, and encode each style, once on each node."""
        import torch

        from pipeline.algorithms.color_maps import moments
        from pipeline.model_files.node_cache import cached_tensors
        from pipeline.networks.pixel_tensors import rgb_unit_tensor, with_short_side
        from pipeline.networks.style.adain import style_statistics
        from pipeline.shards.images.codecs import decode

        reference_set = ReferenceSet("adain_style.styles", self.params.styles, assets.images["styles"])
        if self.params.style_weights:
            self._probabilities = reference_set.probabilities(self.params.style_weights, "adain_style.style_weights")
        self.load_networks(device, assets)

        def image(place: int) -> "tuple[Pixels, Tensor]":
            pixels = reference_set.pixels(place, decode)
            return pixels, with_short_side(rgb_unit_tensor(pixels[None]), self.params.style_size_px)

        def features() -> "dict[str, Tensor]":
            with torch.inference_mode():
                found = [
                    style_statistics(self._encoder, image(place)[1].to(device)) for place in range(len(reference_set))
                ]
            mean, deviation = (torch.cat(values) for values in zip(*found, strict=True))
            return {"mean": mean, "deviation": deviation}

        if self.params.preserve_color:  # a style's features depend on the image then
            for pixels, resized in map(image, range(len(reference_set))):
                colours = moments(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
                self._coloured_styles.append((resized, colours))
        else:
            made_of = [
                sha256_of(str(encoder_file(assets))),
                assets.dtype,
                self.params.style_size_px,
                *(style.sha256 for style in reference_set.references),
            ]
            found = cached_tensors(["style features", self.version, *made_of], device, features)
            self._mean, self._deviation = found["mean"].to(device), found["deviation"].to(device)
        self._reference_set = reference_set

    def draw(self, batch: ImageBatch) -> Draws:
        """Draw for every sample its styles and alpha, then the mask, and with `keep: none` the background's styles."""
        reference_set, own = self._styles(), generators(batch.seeds)
        columns: dict[str, list[Any]] = {"style": [], "style_name": [], "alpha": []}
        drawn = []
        for generator in own:
            places = self._places(generator)
            columns["alpha"].append(float(generator.uniform(*self.params.alpha_range)))
            self._note(columns, OBJECT, places, generator)
            drawn.append(places)
        if self.params.mask is not None:
            columns |= self._masks().draw_columns(batch, own)
        if self.params.keep == "none":
            for generator, places in zip(own, drawn, strict=True):
                others = self._places(generator)
                self._note(columns, BACKGROUND, others, generator)
                places += others
        return Draws(columns, [[reference_set.partners[place] for place in dict.fromkeys(places)] for places in drawn])

    def _places(self, generator: np.random.Generator) -> list[int]:
        reference_set = self._styles()
        return [reference_set.draw(generator, self._probabilities) for _ in range(self.params.styles_per_image)]

    def _note(
        self, columns: dict[str, list[Any]], region: str, places: list[int], generator: np.random.Generator
    ) -> None:
        """Add the styles at `places` to the columns of a region, and their weights where there are several."""
        reference_set, count = self._styles(), len(places)
        keys, names = [reference_set.keys[place] for place in places], [reference_set.names[place] for place in places]
        columns.setdefault(f"{region}style", []).append(keys if count > 1 else keys[0])
        columns.setdefault(f"{region}style_name", []).append(names if count > 1 else names[0])
        if count > 1:
            fixed = self.params.mixing_weights
            weights = [each / sum(fixed) for each in fixed] if fixed else generator.dirichlet(np.ones(count)).tolist()
            columns.setdefault(f"{region}weights", []).append(weights)

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Stylise the batch, or the region of each image that is not kept."""
        chosen = [self._chosen(draws, OBJECT)]
        if self.params.keep == "none":
            chosen.append(self._chosen(draws, BACKGROUND))

        def statistics(place: slice, content: "Tensor") -> "list[Statistics]":
            return [self._statistics(content, styles[place], weights[place]) for styles, weights in chosen]

        if self.params.mask is None:
            return self.stylise_batch(batch, draws.columns["alpha"], statistics)
        images = self.images_of(batch)
        objects, errors = self._masks().read(batch, draws)
        regions = {"object": [~objects], "background": [objects], "none": [objects, ~objects]}[self.params.keep]
        made = self.stylise_batch(batch, draws.columns["alpha"], statistics, np.stack(regions, axis=1).astype(np.uint8))
        pixels: Pixels = made.images
        if len(regions) == 1:
            fine = [index for index in range(len(batch)) if index not in made.rejected]  # a failure stays black
            pixels[fine] = np.where(regions[0][fine, ..., None], pixels[fine], images[fine])
        return Applied(pixels, rejected=made.rejected, errors=errors)

    def _chosen(self, draws: Draws, region: str) -> "tuple[Tensor, Tensor]":
        """Return the places of a region's styles, and their weights, each [N, k]."""
        import torch

        reference_set, names = self._styles(), draws.columns[f"{region}style"]
        keys = [[style] if isinstance(style, str) else style for style in names]
        shares = draws.columns.get(f"{region}weights", [[1.0]] * len(keys))
        places = torch.tensor([[reference_set.place(key) for key in some] for some in keys], device=self._device)
        return places, torch.tensor(shares, dtype=torch.float32, device=self._device)

    def _statistics(self, content: "Tensor", chosen: "Tensor", weights: "Tensor") -> "Statistics":
        """Return mean and deviation [n, C, 1, 1] of the styles [n, k] of images, mixed by their weights [n, k]."""
        if self.params.preserve_color:
            mean, deviation = self._recoloured(content, chosen)
        else:
            mean, deviation = self._mean[chosen], self._deviation[chosen]
        if chosen.shape[1] == 1:
            return mean[:, 0], deviation[:, 0]
        shares = weights[:, :, None, None, None]
        return (shares * mean).sum(dim=1), (shares * deviation).sum(dim=1)

    def _recoloured(self, content: "Tensor", chosen: "Tensor") -> "Statistics":
        """Return means and deviations [n, k, C, 1, 1] of styles that took on the colours of their image first."""
        import torch

        from pipeline.algorithms.color_maps import coral_map, moments
        from pipeline.networks.style.adain import style_statistics

        found = []
        for pixels, places in zip(content.permute(0, 2, 3, 1).numpy(), chosen.tolist(), strict=True):
            for image, colours in (self._coloured_styles[place] for place in places):
                matrix, shift = (torch.from_numpy(v).float() for v in coral_map(colours, moments(pixels)))
                style = torch.einsum("ij,njhw->nihw", matrix, image) + shift.view(1, 3, 1, 1) / 255
                found.append(style_statistics(self._encoder, style.to(self._device)))
        shape = (*chosen.shape, -1, 1, 1)
        mean, deviation = (torch.cat(values).view(shape) for values in zip(*found, strict=True))
        return mean, deviation

    def _masks(self) -> ObjectMasks:
        return ObjectMasks(self.name, self.params.mask or "", self.params)

    def _styles(self) -> ReferenceSet:
        if self._reference_set is None:
            raise RuntimeError("adain_style: load comes before draw; the styles are not known yet")
        return self._reference_set
