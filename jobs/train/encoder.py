"""The AdaIN encoder trained here as a classifier, with one head per labelled source, and as half of an auto-encoder.

Classification makes the features speak of things; reconstruction keeps the colours in them, which a classifier throws
away. Batch normalisation helps it learn in minutes and is folded into the convolutions afterwards; each filter is then
rescaled so that its mean activation over images is 1 (Gatys et al. 2016, section 2), which ReLU networks allow exactly.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.train import harness
from jobs.train.images import jitter, random_crops
from jobs.train.sources import EncoderPhase, Source, load_sources
from pipeline.models import weights
from pipeline.models.adain import build_decoder, build_encoder

ENCODER_FILE = "encoder.safetensors"
FREEZE_AT = 0.7  # share of the budget after which the batch norms keep their running statistics
COLOUR_FLOOR = 0.02  # in [0, 1]; keeps the whitening of nearly grey data from blowing noise up
WARM_UP = 0.03  # share of the budget in which the learning rate rises


class Classifier(nn.Module):
    """The encoder with batch norms between; on top two convolutions and a linear head per source, and a decoder."""

    def __init__(self, width: int, classes: dict[str, int]) -> None:
        super().__init__()
        self.encoder = build_encoder(width)
        self.encoder[0].requires_grad_(False)
        filters = {str(index): self.encoder[index].out_channels for index in _filters(self.encoder)}
        self.norms = nn.ModuleDict({index: nn.BatchNorm2d(channels) for index, channels in filters.items()})
        top = 8 * width
        self.tail = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), *_block(top, top), *_block(top, top))
        self.heads = nn.ModuleDict({name: nn.Linear(top, count) for name, count in classes.items()})
        self.decoder = build_decoder(width)
        start_grey(self.decoder)

    def forward(self, images: Tensor, head: str) -> tuple[Tensor, Tensor]:
        """Logits [N, classes of that head] and reconstructions of images [N, 3, H, W], H and W multiples of 8."""
        for index, module in enumerate(self.encoder):
            images = module(images)
            if str(index) in self.norms:
                images = self.norms[str(index)](images)
        return self.heads[head](self.tail(images).mean(dim=(2, 3))), self.decoder(images)


def _block(inward: int, outward: int) -> list[nn.Module]:
    return [nn.Conv2d(inward, outward, 3, padding=1), nn.BatchNorm2d(outward), nn.ReLU()]


def _filters(encoder: nn.Sequential) -> list[int]:
    return [index for index, module in enumerate(encoder) if isinstance(module, nn.Conv2d) and index > 0]


def start_grey(decoder: nn.Sequential) -> None:
    """He initialisation, and a last layer that starts out as plain mid-grey."""
    for module in decoder:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        decoder[-1].weight.mul_(0.1)
        decoder[-1].bias.fill_(0.5)


@torch.no_grad()
def start_typical(classifier: Classifier, batches: list[Tensor]) -> None:
    """Set the first weights from images [N, 3, H, W] in [0, 1], in place.

    The 1x1 convolution whitens the colours: left as they are, brightness drowns them from layer to layer. The others
    start orthogonal, with the batch norms at the statistics of these images and two thirds of the positions firing.
    """
    encoder = classifier.encoder
    colours = torch.cat([batch.permute(0, 2, 3, 1).reshape(-1, 3) for batch in batches]).double()
    values, vectors = torch.linalg.eigh(torch.cov(colours.T))
    whiten = vectors @ torch.diag((values + COLOUR_FLOOR**2).rsqrt()) @ vectors.T
    encoder[0].weight.copy_(whiten.view(3, 3, 1, 1))
    encoder[0].bias.copy_(-whiten @ colours.mean(dim=0))
    signals = [encoder[0](batch) for batch in batches]
    start = 1
    for index in _filters(encoder):
        nn.init.orthogonal_(encoder[index].weight)
        nn.init.zeros_(encoder[index].bias)
        signals = [encoder[start : index + 1](signal) for signal in signals]
        values = torch.cat([signal.transpose(0, 1).flatten(1) for signal in signals], dim=1)
        norm = classifier.norms[str(index)].eval()
        norm.running_mean.copy_(values.mean(dim=1))
        norm.running_var.copy_(values.var(dim=1))
        norm.bias.fill_(0.5)
        signals = [norm(signal) for signal in signals]
        start = index + 1


@torch.no_grad()
def folded(classifier: Classifier) -> nn.Sequential:
    """A plain encoder that computes what the classifier's does in eval mode."""
    plain = build_encoder(classifier.encoder[2].out_channels)
    plain.load_state_dict(classifier.encoder.state_dict())
    for name, norm in classifier.norms.items():
        layer = plain[int(name)]
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        layer.weight.mul_(gain.view(-1, 1, 1, 1))
        layer.bias.copy_((layer.bias - norm.running_mean) * gain + norm.bias)
    return plain.eval()


@torch.no_grad()
def normalise_activations(encoder: nn.Sequential, batches: list[Tensor]) -> Tensor:
    """Scale every filter, in place, so that its mean activation after ReLU is 1 over all images and positions.

    batches: images [N, 3, H, W] in [0, 1] of any sizes. Filters that never fire stay as they are. Returns what the
    relu4_1 channels were divided by, [8 * width].
    """
    signals, start = batches, 0
    for index in _filters(encoder):
        layer, signals = encoder[index], [encoder[start : index + 2](signal) for signal in signals]
        total = torch.stack([signal.mean(dim=(2, 3)).sum(dim=0) for signal in signals]).sum(dim=0)
        mean = total / sum(len(signal) for signal in signals)
        mean = torch.where(mean > 1e-4, mean, torch.ones_like(mean))
        layer.weight.div_(mean.view(-1, 1, 1, 1))
        layer.bias.div_(mean)
        signals = [signal / mean.view(1, -1, 1, 1) for signal in signals]
        start = index + 2
        following = next((later for later in _filters(encoder) if later > index), None)
        if following is not None:
            encoder[following].weight.mul_(mean.view(1, -1, 1, 1))
    return mean


class EncoderTask:
    """Phase one of `train adain`, as a `harness.Task`."""

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        self.seed, self.rank, self.device = config["seed"], config["rank"], device
        self.phase = phase = EncoderPhase(**config["phase"])
        torch.manual_seed(self.seed)
        every = [Source(**source) for source in config["sources"]]
        self.sources = [source for source in every if source.encoder_batch]
        self.sets = load_sources(self.sources, self.seed)
        classes = {source.name: self.sets[source.name].classes for source in self.sources}
        self.model = Classifier(config["width"], classes)
        start_typical(self.model, self._typical())
        self.model = self.model.to(device, memory_format=torch.channels_last)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, phase.learning_rate, weight_decay=phase.weight_decay)

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])

    def step(self, step: int, progress: float) -> dict[str, float]:
        rng = np.random.default_rng([self.seed, self.rank, step])
        self.model.train(progress < FREEZE_AT)
        for group in self.optimiser.param_groups:
            rate = min(progress / WARM_UP + 0.02, 0.5 + 0.5 * np.cos(np.pi * progress))
            group["lr"] = self.phase.learning_rate * rate
        self.optimiser.zero_grad(set_to_none=True)
        losses: dict[str, float] = {}
        for source in self.sources:
            images, labels = self._batch(source, rng)
            with harness.autocast(self.device):
                logits, again = self.model(images, source.name)
                apart = F.l1_loss(self.model.encoder[0](again), self.model.encoder[0](images))
                loss = F.cross_entropy(logits, labels) + self.phase.pixel_weight * apart
            loss.backward()
            losses[f"{source.name}_pixel"] = apart.item()
            losses[f"{source.name}_right"] = (logits.argmax(dim=1) == labels).float().mean().item()
        harness.average_gradients(self.model.parameters())
        self.optimiser.step()
        return losses

    def _batch(self, source: Source, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        held = self.sets[source.name]
        rows = rng.integers(0, len(held.pixels), source.encoder_batch)
        crops = random_crops(held.take(rows), source.encoder_crop_px, rng, source.encoder_scale_range)
        images = jitter(crops, rng, self.phase.colour_jitter)
        labels = held.labels[torch.from_numpy(rows)]
        return images.to(self.device, memory_format=torch.channels_last), labels.to(self.device)

    @torch.no_grad()
    def grid(self) -> Tensor | None:
        """Images over their reconstructions, of the source with the largest crops."""
        source = max(self.sources, key=lambda one: one.encoder_crop_px)
        images, _ = self._batch(source, np.random.default_rng(self.seed))
        self.model.eval()
        return torch.stack([images, self.model(images, source.name)[1]]).cpu()

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """Encoder and decoder in one float32 file; phase two goes on from both."""
        encoder, decoder = folded(self.model).cpu(), deepcopy(self.model.decoder).cpu()
        scale = normalise_activations(encoder, self._typical())
        decoder[1].weight.mul_(scale.view(1, -1, 1, 1))
        state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
        weights.save_state(folder / ENCODER_FILE, state | {f"decoder.{n}": v for n, v in decoder.state_dict().items()})

    def _typical(self) -> list[Tensor]:
        """The same crops each time, as many of each source as its batch holds, for the mean activations."""
        rng = np.random.default_rng(self.seed)
        return [self._batch(source, rng)[0].cpu().contiguous() for source in self.sources for _ in range(3)]


def build(config: dict[str, Any], device: torch.device) -> EncoderTask:
    """EncoderTask from plain values: seed, rank, width, sources, phase."""
    return EncoderTask(config, device)
