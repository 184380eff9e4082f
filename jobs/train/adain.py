"""Trains the AdaIN model: a fixed encoder, a decoder that starts by least squares, then the losses of the paper.

Decoder losses: Huang & Belongie 2017, equations 11 to 13, and for a share of each batch, whose style is its own
statistics, the distance of the pixels as well, so that alpha 0 gives the image back.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from jobs.train.data.images import random_crops, recoloured
from jobs.train.data.sources import DecoderPhase, Source, check_sources, content_crops, load_sources, shown
from jobs.train.loop import harness
from jobs.train.loop.config import Closed, read_config
from jobs.train.networks.adain_encoder import normalise_activations, pass_through_encoder
from jobs.train.networks.least_squares_decoder import solve_decoder
from pipeline.networks.style import adain

MODEL_FILE = "adain.safetensors"
START_FILE = "start.safetensors"
START_BATCHES = 24
GRID_PX = 128


class AdainConfig(Closed):
    """The YAML of `train adain`. Paths are relative to where the command is called."""

    seed: int = 7
    out: str
    width: int = Field(32, ge=6)
    levels: Literal[3, 4] = 3
    workers: int = Field(1, ge=0, description="of Ray Train; 0: in this process, without Ray")
    threads: PositiveInt = 2
    sources: list[Source] = Field(min_length=1)
    decoder: DecoderPhase


def train(config_path: str | Path) -> Path:
    """Train, or what is left of it; return the path of the finished `adain.safetensors`.

    Raises RecipeError for a wrong configuration and InputError for missing images.
    """
    config = read_config(config_path, AdainConfig)
    check_sources(config.sources, config.seed)
    folder = Path(config.out)
    plain = config.model_dump()
    settings = {name: plain[name] for name in ("seed", "width", "levels", "sources")}
    settings |= {"phase": plain["decoder"], "start_path": str((folder / START_FILE).absolute())}
    harness.fit(build, settings, config.decoder.budget(config.threads), folder, "decoder", config.workers)
    return folder / "decoder" / MODEL_FILE


class DecoderTask:
    """The training of the decoder, as a `harness.Task`."""

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        self.seed, self.rank, self.device = config["seed"], config["rank"], device
        self.phase = DecoderPhase(**config["phase"])
        self.sources = [Source(**source) for source in config["sources"]]
        self.sets = load_sources([one for one in self.sources if one.content_share or one.style_share], self.seed)
        start = Path(config["start_path"])
        if not start.exists():
            self._make_start(start, config["width"], config["levels"])
        self.encoder = adain.load_encoder(start).to(device)
        self.decoder = adain.load_decoder(start).to(device).requires_grad_(True)
        self.average = harness.averaged(self.decoder, self.phase.ema_decay)
        self.optimiser = torch.optim.Adam(self.decoder.parameters(), self.phase.learning_rate)

    def _make_start(self, path: Path, width: int, levels: int) -> None:
        """Write the encoder, and the decoder that undoes it on content batches, every other one with random colours."""
        rng = np.random.default_rng(self.seed)
        batches = [self._content(rng).cpu().contiguous() for _ in range(START_BATCHES)]
        batches[::2] = [recoloured(batch, rng, 1.0) for batch in batches[::2]]
        encoder = pass_through_encoder(width, levels, self.seed)
        normalise_activations(encoder, batches)
        adain.save_networks(path, encoder, solve_decoder(encoder, batches))

    def state(self) -> dict[str, Any]:
        parts = {"decoder": self.decoder, "average": self.average, "optimiser": self.optimiser}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.decoder.load_state_dict(state["decoder"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])

    def step(self, step: int, progress: float) -> dict[str, float]:
        rng = np.random.default_rng([self.seed, self.rank, step])
        content = self._content(rng)
        style = self._style(rng, -(-len(content) // 2))
        harness.set_rate(self.optimiser, self.phase.learning_rate, step, progress)
        self.optimiser.zero_grad(set_to_none=True)
        with harness.autocast(self.device):
            losses = self._losses(content, style)
        total = (
            self.phase.content_weight * losses["content"]
            + self.phase.style_weight * losses["style"]
            + self.phase.pixel_weight * losses["pixel"]
        )
        total.backward()
        harness.average_gradients(self.decoder.parameters())
        nn.utils.clip_grad_norm_(self.decoder.parameters(), 10.0)
        self.optimiser.step()
        self.average.update_parameters(self.decoder)
        return {name: loss.item() for name, loss in losses.items()}

    def _losses(self, content: Tensor, style: Tensor) -> dict[str, Tensor]:
        """Content, style and pixel loss of one batch; the first `identity_share` of its rows keep their own style."""
        same = round(self.phase.identity_share * len(content))
        with torch.no_grad():
            levels = adain.encode_levels(self.encoder, content)
            own = [adain.mean_std(level) for level in levels]
            others = [adain.mean_std(level) for level in adain.encode_levels(self.encoder, style)]
            wanted = [_with_own(mine, other, same) for mine, other in zip(own, others, strict=True)]
            target = adain.adain(levels[-1], *wanted[-1])
        images = self.decoder(target)
        made = adain.encode_levels(self.encoder, images)
        outside = F.relu(images - 1).mean() + F.relu(-images).mean()  # clamping hides it and loses contrast
        pixel = F.l1_loss(images[:same], content[:same]) if same else images.new_zeros(())
        return {
            "content": adain.content_loss(made[-1], target),
            "style": adain.style_loss(made, wanted),
            "pixel": pixel + outside,
        }

    def _content(self, rng: np.random.Generator) -> Tensor:
        crops = content_crops(self.sources, self.sets, rng, self.phase.batch_px, self.phase.max_batch_size)
        return adain.pad_to_stride(crops)[0].to(self.device, memory_format=torch.channels_last)

    def _style(self, rng: np.random.Generator, count: int) -> Tensor:
        shares = np.array([source.style_share for source in self.sources])
        chosen = rng.choice(len(shares), count, p=shares / shares.sum())
        size_px = int(rng.choice(self.phase.style_sizes_px))
        crops = []
        for index in np.unique(chosen):
            source = self.sources[index]
            held = self.sets[source.name]
            rows = rng.integers(0, len(held.pixels), int((chosen == index).sum()))
            crops.append(random_crops(held.take(rows), size_px, rng, source.style_scale_range))
        styles = torch.cat(crops)[torch.from_numpy(rng.permutation(count))]
        styles = recoloured(styles, rng, self.phase.recolour * rng.integers(0, 2))
        return styles.to(self.device, memory_format=torch.channels_last)

    @torch.no_grad()
    def grid(self) -> Tensor | None:
        """Styles along the top, contents down the left, then alpha 0, then alpha 1 in each style."""
        rng = np.random.default_rng(self.seed)
        contents, styles = self._shown("content_share", 6, rng), self._shown("style_share", 7, rng)
        mean, std = adain.style_statistics(self.encoder, styles)
        rows = [torch.cat([torch.ones_like(styles[:2]), styles])]
        for content in contents.split(1):
            alpha = torch.ones(len(styles) + 1, device=self.device)
            alpha[0] = 0
            repeated = content.expand(len(alpha), -1, -1, -1)
            chosen = [0, *range(len(styles))]
            made = adain.stylise(self.encoder, self.average.module, repeated, mean[chosen], std[chosen], alpha)
            rows.append(torch.cat([content, made]))
        return torch.stack(rows).cpu()

    def _shown(self, share: str, count: int, rng: np.random.Generator) -> Tensor:
        used = [source for source in self.sources if getattr(source, share)]
        return shown(used, self.sets, rng, count, GRID_PX).to(self.device)

    def export(self, folder: Path) -> None:
        adain.save_networks(folder / MODEL_FILE, self.encoder, self.average.module)


def _with_own(own: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], same: int) -> tuple[Tensor, Tensor]:
    """(mean, std) [N, C, 1, 1]: the first `same` rows of `own`, then those of `other`, each style used in turn."""
    count = len(own[0])
    turn = torch.arange(same, count, device=own[0].device) % len(other[0])
    mean, std = (torch.cat([mine[:same], theirs[turn]]) for mine, theirs in zip(own, other, strict=True))
    return mean, std


def build(config: dict[str, Any], device: torch.device) -> DecoderTask:
    """DecoderTask from plain values: seed, rank, width, levels, sources, phase, start_path."""
    return DecoderTask(config, device)
