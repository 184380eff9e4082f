"""A frozen text-to-image pipeline (Stable Diffusion) for training: autoencoder, text encoder, U-Net and schedule."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobs.train.objectives.noise_prediction import KINDS
from pipeline.diffusion.schedulers import is_flow_matching
from pipeline.diffusion.text_pipelines import TextPipeline, load_pipeline
from pipeline.errors import ModelError

PARTS = {"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel", "vae": "AutoencoderKL"}
ENCODED_TOGETHER = 8
GUIDANCE = 7.0  # for the images of sample sheets


class TextToImageModel:
    """Images to latents, prompts to embeddings, noisy latents to predictions; no weight is trained.

    `shares` [T] are alpha-bar of each time, `kind` what the network predicts: `epsilon` or `v_prediction`. Raises
    ModelError for a folder that holds no such pipeline.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        from diffusers import DDPMScheduler

        self.pipeline = load_pipeline(folder, "generate")
        self._folder, self._device = folder, device
        self._check()
        for part in PARTS:
            getattr(self.pipeline, part).requires_grad_(False).eval().to(device)
        schedule: Any = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        self.shares: Tensor = schedule.alphas_cumprod.to(device)
        self.kind: str = schedule.config.prediction_type

    def _check(self) -> None:
        pipeline, named = self.pipeline, f"model {self._folder}: {type(self.pipeline).__name__}"
        for part, kind in PARTS.items():
            found = type(getattr(pipeline, part, None)).__name__
            if found != kind or getattr(pipeline, "text_encoder_2", None) is not None:
                raise ModelError(f"{named} cannot be taught; needed: Stable Diffusion 1 or 2, with one {kind}")
        if is_flow_matching(pipeline.scheduler) or pipeline.scheduler.config.prediction_type not in KINDS:
            raise ModelError(f"{named} predicts neither noise nor its velocity; needed: {' or '.join(KINDS)}")
        if pipeline.unet.config.time_cond_proj_dim is not None:
            raise ModelError(f"{named} is distilled; teach the model it was made from")
        if pipeline.unet.config.in_channels != pipeline.vae.config.latent_channels:
            raise ModelError(f"{named} takes more than an image; needed: a text-to-image model")

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [N, c, s, s] of the latents of images [N, 3, S, S] in [-1, 1]."""
        vae = self.pipeline.vae
        shift, scale = vae.config.shift_factor or 0.0, vae.config.scaling_factor
        means, deviations = [], []
        for part in images.split(ENCODED_TOGETHER):
            found = vae.encode(part.to(self._device)).latent_dist
            means.append((found.mean - shift) * scale)
            deviations.append(found.std * scale)
        return torch.cat(means), torch.cat(deviations)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings [N, words, width] of prompts; a gradient goes through to what the encoder was taught."""
        tokenizer = self.pipeline.tokenizer
        found = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        embeddings: Tensor = self.pipeline.text_encoder(found.input_ids.to(self._device))[0]
        return embeddings

    def predict(self, latents: Tensor, times: Tensor, embeddings: Tensor) -> Tensor:
        """Return the network's prediction for noisy latents [N, c, s, s] at times [N], int64 in [0, T)."""
        said: Tensor = self.pipeline.unet(latents, times, encoder_hidden_states=embeddings).sample
        return said

    def images(self, prompts: Sequence[str], seeds: Sequence[int], steps: int, size_px: int) -> Tensor:
        """New images [N, 3, S, S] in [-1, 1] from prompts, as the operators make them."""
        backend = TextPipeline(
            self.pipeline, "generate", self._folder, str(self._device), steps, None, size_px
        )  # a new one each time: it caches text embeddings, which training changes
        made, _ = backend(prompts, [""] * len(prompts), seeds, steps, GUIDANCE)
        return made
