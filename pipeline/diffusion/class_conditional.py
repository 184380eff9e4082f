"""Class-conditional diffusion models of a diffusers folder: DiT in latents, a UNet2DModel in pixels at 28 or 32 px.

Peebles & Xie 2023, "Scalable Diffusion Models with Transformers", arXiv:2212.09748; Ho et al. 2020, "Denoising
Diffusion Probabilistic Models", arXiv:2006.11239. The loop is ours: DiT's own in diffusers hands the scheduler no
generator, so a scheduler that adds noise at every step would draw from a global one.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.diffusion.latent_cache import LatentCache
from pipeline.diffusion.schedulers import check_steps, is_flow_matching, named_scheduler
from pipeline.diffusion.sliced_decode import slice_large_decodes
from pipeline.diffusion.text_pipelines import load_quietly
from pipeline.errors import ModelError
from pipeline.model_files.folders import INDEX_FILE, read_json
from pipeline.model_files.known_classes import LATENT_PIPELINE, class_network, folder_classes
from pipeline.networks.precision import cast_network, dtype_of


@dataclass(frozen=True)
class EditSource:
    """Images [N, C, S, S] in [-1, 1] to edit; masks [N, 1, S, S] are 1 where they may change (None: everywhere)."""

    images: Tensor
    masks: Tensor | None = None


class ClassConditionalModel:
    """A class-conditional network, its scheduler, and its autoencoder (none for a model in pixel space).

    Raises ModelError where the folder holds no such model, or the scheduler or the steps do not fit it.
    """

    def __init__(
        self, folder: str | Path, device: str, steps: int, scheduler: str | None, dtype: str = "float32"
    ) -> None:
        index = read_json(Path(folder, INDEX_FILE))
        self._vae: Any = None
        latent = index.get("_class_name") == LATENT_PIPELINE
        if latent:
            import diffusers

            whole = load_quietly(diffusers.DiTPipeline.from_pretrained, folder)
            self.transformer = self.network = whole.transformer
            self._vae, own = cast_network(whole.vae, dtype).to(device).requires_grad_(False), whole.scheduler
            slice_large_decodes(self._vae, device)
            LatentCache(self._vae)
            embeddings = int(self.network.config.num_embeds_ada_norm)
        else:
            self.unet = self.network = _load_unet(folder)
            own = _load_scheduler(folder)
            embeddings = int(self.network.config.num_class_embeds or 0)
        clean = folder_classes(index, embeddings, latent)
        self.class_count, self.classes, self.null_class = clean.count, clean.names, clean.none
        self.scheduler = named_scheduler(scheduler, own, folder)
        check_steps(self.scheduler, steps, folder)
        self.network.eval().requires_grad_(False)
        self.predict: Callable[..., Tensor] = self._predict
        self._type, self._dtype = dtype, dtype_of(dtype)
        self._steps, self._device = steps, device
        config = self.network.config
        self.channels, self.size_px = int(config.in_channels), int(config.sample_size)
        if self._vae:
            self.image_channels = int(self._vae.config.out_channels)
            self.size_px *= 2 ** (len(self._vae.config.block_out_channels) - 1)
        else:
            self.image_channels = self.channels

    @torch.inference_mode()
    def generate(
        self, labels: Sequence[int], seeds: Sequence[int], guidance: Sequence[float], run: int, start: EditSource | None
    ) -> Tensor:
        """Return images [N, C, S, S], about [-1, 1]: new ones, or `start` edited by the last `run` of the steps.

        One generator a sample, made on the CPU from its seed, for its first noise and for each step's.
        """
        from diffusers.utils.torch_utils import randn_tensor

        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        side = int(self.network.config.sample_size)
        shape = (len(seeds), self.channels, side, side)
        noise = randn_tensor(shape, generator=generators, device=torch.device(self._device), dtype=torch.float32)
        self.scheduler.set_timesteps(self._steps, device=self._device)
        first = (len(self.scheduler.timesteps) // self._steps) * (self._steps - run)  # some take two calls a step
        times = self.scheduler.timesteps[first:]
        if start is not None and hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(first)
        clean = None if start is None else self._encode(start.images)
        if clean is None:
            state = noise * getattr(self.scheduler, "init_noise_sigma", 1.0)
        else:
            state = self._add_noise(clean, noise, times[0])
        step = self._stepper(generators)
        strength = torch.tensor(list(guidance), dtype=torch.float32, device=self._device)
        lowest = 0 if self.null_class is None else -1  # without a null class, rows of class -1 are errors already
        named = torch.tensor([max(label, lowest) for label in labels], device=self._device)
        for place, time in enumerate(times):
            state = step(self._guided_prediction(state, time, named, strength), time, state)
            if start is not None and start.masks is not None and clean is not None:
                free = F.interpolate(start.masks, (side, side), mode="nearest")
                kept = clean if place + 1 == len(times) else self._add_noise(clean, noise, times[place + 1])
                state = free * state + (1 - free) * kept
        return self.decode(state)

    def to_device(self) -> None:
        """Cast the network to its dtype and move it to its device; adapters are merged before."""
        cast_network(self.network, self._type).to(self._device)

    def _guided_prediction(self, state: Tensor, time: Tensor, labels: Tensor, guidance: Tensor) -> Tensor:
        """Return the network's prediction, with classifier-free guidance where it is not 1, in one network call."""
        scaled = (
            self.scheduler.scale_model_input(state, time) if hasattr(self.scheduler, "scale_model_input") else state
        )
        if self.null_class is None:
            return self._network_output(scaled, time, labels if self.class_count else None)
        named = torch.where(labels < 0, self.null_class, labels)
        rows = ((guidance != 1) & (named != self.null_class)).nonzero()[:, 0]
        free = torch.full_like(rows, self.null_class)
        both = self._network_output(torch.cat([scaled, scaled[rows]]), time, torch.cat([named, free]))
        found, unnamed = both[: len(state)].clone(), both[len(state) :]
        found[rows] = unnamed + guidance[rows].view(-1, 1, 1, 1) * (found[rows] - unnamed)
        return found

    def _network_output(self, state: Tensor, time: Tensor, labels: Tensor | None) -> Tensor:
        times = torch.as_tensor(time, device=state.device).expand(len(state))
        answer = self.predict(state, times, labels)
        learned = str(self.scheduler.config.get("variance_type", "")).startswith("learned")
        return answer if learned or answer.shape[1] == self.channels else answer[:, : self.channels]

    def _predict(self, state: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        answer: Tensor = self.network(state.to(self._dtype), timestep=times, class_labels=labels).sample
        return answer.float()

    def _stepper(self, generators: list[torch.Generator]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        own = {"generator": generators} if "generator" in inspect.signature(self.scheduler.step).parameters else {}

        def step(answer: Tensor, time: Tensor, state: Tensor) -> Tensor:
            moved: Tensor = self.scheduler.step(answer, time, state, return_dict=False, **own)[0]
            return moved

        return step

    def _add_noise(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        times = torch.as_tensor(time).reshape(1).expand(len(clean))
        if is_flow_matching(self.scheduler):
            mixed: Tensor = self.scheduler.scale_noise(clean, times, noise)
        else:
            mixed = self.scheduler.add_noise(clean, noise, times)
        return mixed

    def _encode(self, images: Tensor) -> Tensor:
        if self._vae is None:
            return images
        each = [self._vae.encode(image[None]).latent_dist.mode() for image in images.to(self._dtype)]
        return torch.cat(each).float() * float(self._vae.config.scaling_factor)

    def decode(self, state: Tensor) -> Tensor:
        """Decode clean latents to images [N, C, S, S] float32; a model in pixel space returns them as they are."""
        if self._vae is None:
            return state.float()
        images: Tensor = self._vae.decode((state / self._vae.config.scaling_factor).to(self._dtype)).sample
        return images.float()


def _load_unet(folder: str | Path) -> Any:
    import diffusers

    place = class_network(folder)
    if place is None:
        raise ModelError(f"model {folder}: no UNet2DModel in it")
    net = load_quietly(diffusers.UNet2DModel.from_pretrained, place)
    if net.config.class_embed_type is not None:
        raise ModelError(
            f"model {folder}: its classes are of type {net.config.class_embed_type!r}; embeddings are known"
        )
    return net


def _load_scheduler(folder: str | Path) -> Any:
    """Load the scheduler beside a network; its class is named in `scheduler_config.json`."""
    import diffusers

    for place in (Path(folder, "scheduler"), Path(folder)):
        name = str(read_json(place / "scheduler_config.json").get("_class_name", ""))
        found = getattr(diffusers, name, None)
        if isinstance(found, type) and issubclass(found, diffusers.SchedulerMixin):
            loaded: Any = found
            return loaded.from_pretrained(str(place))
    raise ModelError(f"model {folder}: there is no scheduler/scheduler_config.json of a diffusers scheduler in it")
