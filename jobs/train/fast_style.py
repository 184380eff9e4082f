"""Trains the networks of `fast_style`, one for each style image, with perceptual losses (Johnson et al. 2016).

Losses: section 3.2 of the paper: features of the content (equation 2), Gram matrices of the style (equation 4) at
four depths of a fixed network, and total variation.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from jobs.train.data.references import Anywhere
from jobs.train.data.sources import Phase, Source, check_sources, content_crops, load_sources, shown
from jobs.train.loop import harness
from jobs.train.loop.config import Closed, read_config
from jobs.train.objectives import perceptual
from pipeline.contracts import ReferenceImage
from pipeline.errors import InputError
from pipeline.model_files.references import FileRef, read_reference, resolve_images
from pipeline.networks.pixel_tensors import rgb_unit_tensor, with_short_side
from pipeline.networks.style import fast_style_network
from pipeline.operators.bases.reference_set import ReferenceSet
from pipeline.shards.images.codecs import decode

MODEL_FILE = "fast_style.safetensors"
START_BATCHES = 8
START_CONTRAST = 55.0  # grey levels of a deviation of 1
MIXED = 0.1  # initial weight of the other channels in a channel that carries the image
GRID_PX = 128
GRID_COLUMNS = 7

Width = Annotated[int, Field(ge=6)]  # the image takes six channels at first


class NetworkSize(Closed):
    """Channels at full, half and quarter resolution, and residual blocks."""

    widths: tuple[Width, Width, Width] = fast_style_network.WIDTHS
    blocks: int = Field(fast_style_network.BLOCKS, ge=0)


class LossNetwork(Closed):
    """The loss network: a VGG file, or else a random encoder of this width; and the weights of the losses."""

    renamed: ClassVar[Mapping[str, str]] = {"variation_weight": "tv_weight"}

    vgg: Anywhere | None = None
    width: int = Field(32, ge=6)
    content_weight: float = Field(1.0, ge=0)
    style_weight: float = Field(10.0, ge=0)
    tv_weight: float = Field(1.0, ge=0)


class FastStylePhase(Phase):
    """How each network is trained."""

    renamed: ClassVar[Mapping[str, str]] = {"max_batch": "max_batch_size", "average_decay": "ema_decay"}

    batch_px: PositiveInt = 65536
    max_batch_size: PositiveInt = 32
    ema_decay: float = Field(0.999, ge=0, lt=1)


class FastStyleConfig(Closed):
    """The YAML of `train fast_style`. Paths are relative to where the command is called."""

    seed: int = 7
    out: str
    styles: str
    style_size_px: int = Field(256, ge=perceptual.MIN_SIDE, le=4096)
    workers: int = Field(1, ge=0, description="of Ray Train; 0: in this process, without Ray")
    threads: PositiveInt = 2
    sources: list[Source] = Field(min_length=1)
    network: NetworkSize = NetworkSize()
    loss: LossNetwork = LossNetwork()
    training: FastStylePhase

    @field_validator("sources")
    @classmethod
    def _usable(cls, value: list[Source]) -> list[Source]:
        if not any(source.content_share for source in value):
            raise ValueError("no source has a content_share above 0")
        if any(min(source.content_crops_px, default=0) < perceptual.MIN_SIDE for source in value):
            raise ValueError(f"content_crops_px needs sizes of {perceptual.MIN_SIDE} px or more")
        return value


def train(config_path: str | Path) -> Path:
    """Train one network a style, or go on; the path of the model, or with several styles their folder.

    Raises RecipeError for a wrong configuration, InputError for missing images, JobError for a style that is no
    image, ModelError for a loss network that is no VGG.
    """
    config = read_config(config_path, FastStyleConfig)
    references = resolve_images(config.styles, str(Path.cwd()))
    names = [_folder_name(reference) for reference in references]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise InputError(f"styles {config.styles!r}: {len(twins)} names stand for several images, as {twins[0]!r}")
    for reference in references:
        read_style(reference, config.style_size_px)
    if config.loss.vgg is not None:
        perceptual.vgg_levels(config.loss.vgg, torch.device("cpu"))
    check_sources(config.sources, config.seed)
    settings = config.model_dump(include={"seed", "sources", "style_size_px", "network", "loss", "training"})
    for name, reference in zip(names, references, strict=True):
        budget = config.training.budget(config.threads)
        harness.fit(build, settings | {"style": asdict(reference)}, budget, Path(config.out), name, config.workers)
    return Path(config.out) / names[0] / MODEL_FILE if len(names) == 1 else Path(config.out)


def read_style(reference: FileRef, size_px: int) -> Tensor:
    """A style image [1, 3, h, w] in [0, 1], its short side `size_px`. Raises JobError where it is no usable image."""
    image = ReferenceImage(reference.uri, reference.sha256, read_reference(reference))
    reference_set = ReferenceSet("train fast_style: styles", reference.reference, [image])
    return with_short_side(rgb_unit_tensor(reference_set.pixels(0, decode)[None]), size_px)


def _folder_name(reference: FileRef) -> str:
    return re.sub(r"[^\w.-]+", "-", Path(reference.uri).stem)


class FastStyleTask:
    """The training of one network on one style, as a `harness.Task`."""

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        self.seed, self.rank, self.device, self.done = config["seed"], config["rank"], device, 0
        self.phase, self.loss = FastStylePhase(**config["training"]), LossNetwork(**config["loss"])
        self.sources = [source for source in (Source(**one) for one in config["sources"]) if source.content_share]
        self.sets = load_sources(self.sources, self.seed)
        self.style_name = Path(config["style"]["uri"]).name
        self.style = read_style(FileRef(**config["style"]), config["style_size_px"]).to(device)
        self.levels = self._levels()
        with torch.no_grad():
            self.grams = [fast_style_network.normalised_gram(level) for level in self.levels(self.style)]
        size = NetworkSize(**config["network"])
        self.network = start_network(size.widths, size.blocks, self.seed).to(device, memory_format=torch.channels_last)
        self.average = harness.averaged(self.network, self.phase.ema_decay)
        self.optimiser = torch.optim.Adam(self.network.parameters(), self.phase.learning_rate)

    def _levels(self) -> perceptual.Levels:
        if self.loss.vgg is not None:
            return perceptual.vgg_levels(self.loss.vgg, self.device)
        rng = np.random.default_rng(self.seed)
        batches = [self._content(rng).cpu() for _ in range(START_BATCHES)]
        return perceptual.encoder_levels(self.loss.width, self.seed, batches, self.device)

    def state(self) -> dict[str, Any]:
        parts = {"network": self.network, "average": self.average, "optimiser": self.optimiser}
        return {name: part.state_dict() for name, part in parts.items()} | {"done": self.done}

    def load_state(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]

    def step(self, step: int, progress: float) -> dict[str, float]:
        content = self._content(np.random.default_rng([self.seed, self.rank, step]))
        harness.set_rate(self.optimiser, self.phase.learning_rate, step, progress)
        self.optimiser.zero_grad(set_to_none=True)
        losses = self._losses(content)
        total = (
            self.loss.content_weight * losses["content"]
            + self.loss.style_weight * losses["style"]
            + self.loss.tv_weight * losses["variation"]
        )
        total.backward()
        harness.average_gradients(self.network.parameters())
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        self.done = step + 1
        return {name: loss.item() for name, loss in losses.items()}

    def _losses(self, content: Tensor) -> dict[str, Tensor]:
        height, width = content.shape[-2:]
        with harness.autocast(self.device):
            images = (
                self.network(content * fast_style_network.LEVELS)[:, :, :height, :width] / fast_style_network.LEVELS
            )
            made = self.levels(images)
            with torch.no_grad():
                wanted = self.levels(content)[perceptual.CONTENT_LEVEL]
        # In full precision: Gram matrices are long sums.
        levels = [level.float() for level in made]
        style = [fast_style_network.style_loss(level, target) for level, target in zip(levels, self.grams, strict=True)]
        return {
            "content": fast_style_network.feature_loss(levels[perceptual.CONTENT_LEVEL], wanted.float()),
            "style": torch.stack(style).sum(),
            "variation": fast_style_network.total_variation(images.float()),
        }

    def _content(self, rng: np.random.Generator) -> Tensor:
        crops = content_crops(self.sources, self.sets, rng, self.phase.batch_px, self.phase.max_batch_size)
        return crops.to(self.device).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def grid(self) -> Tensor | None:
        """The style in front; contents in the first row, and below what the averaged weights make of them."""
        contents = shown(self.sources, self.sets, np.random.default_rng(self.seed), GRID_COLUMNS, GRID_PX)
        contents = contents.to(self.device)
        style = F.interpolate(self.style, size=(GRID_PX, GRID_PX), mode="bilinear", antialias=True).clamp(0, 1)
        made = fast_style_network.stylise(self.average.module, contents, torch.ones(GRID_COLUMNS, device=self.device))
        return torch.stack([torch.cat([style, contents]), torch.cat([style, made])]).cpu()

    def export(self, folder: Path) -> None:
        about = f"palimpsest train fast_style, {self.style_name}, seed {self.seed}, {self.done} steps"
        fast_style_network.save_network(folder / MODEL_FILE, self.average.module, about)


@torch.no_grad()
def start_network(widths: tuple[int, int, int], blocks: int, seed: int) -> fast_style_network.StyleNetwork:
    """A network drawn from the seed alone, whose first images are the contents, coarse and of one contrast.

    With random filters, instance normalisation would lose the image, and thousands of steps would be needed to recover
    it. So the first six channels of every layer carry it, as RGB and -RGB, of which the rectifiers leave all.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = fast_style_network.StyleNetwork(widths, blocks)
    apart = torch.cat([torch.eye(3), -torch.eye(3)])
    joined = apart.T
    _pass_channels(network.conv1, apart)
    for layer in (network.conv2, network.conv3, network.deconv1, network.deconv2):
        _pass_channels(layer, apart @ joined)
    _pass_channels(network.deconv3, START_CONTRAST * joined)
    nn.init.constant_(network.deconv3.conv2d.bias, fast_style_network.LEVELS / 2)  # type: ignore[arg-type]
    for name, scale in network.named_parameters():
        if name.startswith("res") and name.endswith("in2.weight"):
            scale.fill_(MIXED)
    return network


def _pass_channels(layer: fast_style_network.Convolution, mix: Tensor) -> None:
    """Make the first channels out [a] the first ones in [b], times `mix` [a, b]; averaged where the size changes."""
    filters = layer.conv2d
    outward, inward = mix.shape
    kernel = filters.weight.shape[-1]
    resized = layer.up > 1 or filters.stride[0] > 1
    place = torch.full((kernel, kernel), 1 / kernel**2) if resized else torch.zeros(kernel, kernel)
    if not resized:
        place[kernel // 2, kernel // 2] = 1
    filters.weight[:outward] *= MIXED
    filters.weight[:outward, :inward] += mix[:, :, None, None] * place
    nn.init.zeros_(filters.bias)  # type: ignore[arg-type]


def build(config: dict[str, Any], device: torch.device) -> FastStyleTask:
    """FastStyleTask from plain values: seed, rank, sources, style, style_size_px, network, loss, training."""
    return FastStyleTask(config, device)
