"""Teaches a text-to-image pipeline classes from a few images of each: by textual inversion, or by a LoRA.

Textual inversion learns one word a class (Gal et al. 2022, "An Image is Worth One Word", arXiv:2208.01618, equation 2),
as Trabucco et al. 2023, "Effective Data Augmentation With Diffusion Models", arXiv:2302.07944, use it before they edit
images; or low-rank factors for all classes (Hu et al. 2021, arXiv:2106.09685). The result is the operators'
`textual_inversion` or `lora`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from jobs.train.data.images import ImageSet
from jobs.train.data.labelled import LabelledData, load_split, take
from jobs.train.data.references import Anywhere, local_model
from jobs.train.loop import generators, harness
from jobs.train.loop.config import Closed, read_config
from jobs.train.networks.lora_factors import LoraFactors, save_lora
from jobs.train.networks.text_to_image import TextToImageModel
from jobs.train.objectives import noise_prediction
from pipeline.diffusion import textual_inversion
from pipeline.diffusion.prompts import PromptTemplates, check_template, columns_of
from pipeline.diffusion.text_pipelines import check_size
from pipeline.errors import InputError, RecipeError

MODEL_FILE = "concept.safetensors"
CLIP_NORM = 1.0
SHOWN = 8  # classes on a sample sheet
WORD = "<{label}>"
PROMPTS = {"token": f"a photograph of a {WORD}", "lora": "a photograph of a {label}"}


class ConceptImages(LabelledData):
    """The training images; defaults are for a pipeline of Stable Diffusion 1.5's size."""

    size_px: PositiveInt = 512
    channels: Literal[1, 3] = 3
    held_out: int = Field(0, ge=0)


class LoraSize(Closed):
    """Rank and scale of the factors, where the method is `lora`."""

    rank: PositiveInt = 4
    alpha: PositiveFloat | None = Field(None, description="the factors count alpha / rank; the rank if omitted")


class ConceptPhase(generators.BatchPhase):
    """Budget, batch size and learning rate of the training."""

    batch_size: PositiveInt = 4
    weight_decay: float = Field(0.0, ge=0)


class ConceptConfig(generators.GeneratorConfig):
    """The YAML of `train concept`."""

    renamed: ClassVar[Mapping[str, str]] = {"start_from": "initializer_text", "sheet_steps": "num_inference_steps"}

    model: Anywhere = Field(description="a folder with a diffusers pipeline, or a hub id")
    data: ConceptImages
    method: Literal["token", "lora"] = "token"
    prompt: str | None = Field(None, description="what images are called; the recipe's `prompt` is to be the same one")
    initializer_text: str = Field("{label}", description="token: the text whose words' mean each new word starts as")
    lora: LoraSize = LoraSize()
    per_class: PositiveInt | None = Field(16, description="images of each class at most")
    flip: bool = Field(True, description="show half of the images mirrored")
    num_inference_steps: PositiveInt = 25
    training: ConceptPhase


def train(config_path: str | Path) -> Path:
    """Learn, or go on where the last call stopped; the path of the file of words, or of the LoRA.

    Raises RecipeError for a wrong configuration, InputError for missing or unlabelled images, ModelError for a model
    that cannot be taught.
    """
    config = read_config(config_path, ConceptConfig)
    try:
        config = config.model_copy(update={"prompt": _checked(config)})
    except ValueError as error:
        raise RecipeError(f"config {config_path}: {error}") from error
    data = config.data
    split = load_split(data)
    few = first_per_class(split.train, config.per_class)
    if (few.labels < 0).any():
        raise InputError(f"images {data.uri!r}: some have no label; each has to show one class")
    folder = local_model(config.model)
    model = TextToImageModel(folder, torch.device("cpu"))
    check_size(model.pipeline, data.size_px, folder)
    learner(model, config.model_dump(), [split.classes[label] for label in few.labels.unique()])
    return generators.fit(build, config, "concept", MODEL_FILE)


def _checked(config: ConceptConfig) -> str:
    """Return the prompt. Raises ValueError where it or `initializer_text` cannot be filled with a class name."""
    prompt = config.prompt or PROMPTS[config.method]
    for name, template in (("prompt", prompt), ("initializer_text", config.initializer_text)):
        check_template(template)
        if columns_of([(template, 1.0)]):
            raise ValueError(f"{name}: {template!r} names a column; there is {{label}} alone")
    if config.method == "token" and WORD not in prompt:
        raise ValueError(f"prompt: {prompt!r} has no {WORD}, which is the word that is learnt")
    return prompt


def first_per_class(images: ImageSet, per_class: int | None) -> ImageSet:
    """The first `per_class` images of each label; all of them where it is None."""
    rows = [(images.labels == label).nonzero()[:per_class, 0] for label in images.labels.unique()]
    kept = torch.cat(rows).sort().values
    return ImageSet(images.pixels[kept], images.labels[kept])


def fill_prompt(template: str, name: str) -> str:
    """A template with a class name, as the operators fill it."""
    texts, _ = PromptTemplates(((template, 1.0),)).draw([np.random.default_rng()], [name], {})
    return str(texts[0])


class TextualInversionLearner:
    """Textual inversion: one new word for each class; only their vectors are trained."""

    def __init__(self, model: TextToImageModel, settings: dict[str, Any], names: Sequence[str]) -> None:
        self.words = [fill_prompt(WORD, name) for name in names]
        if len(set(self.words)) < len(self.words):
            raise InputError(f"classes {', '.join(names)}: two of them have one name, and would be one word")
        starts = [
            textual_inversion.mean_vector(model.pipeline, fill_prompt(settings["initializer_text"], name))
            for name in names
        ]
        vectors = dict(zip(self.words, starts, strict=True))
        table = textual_inversion.add_tokens(model.pipeline, vectors, settings["model"])
        self.module = nn.ParameterList([table.vectors])  # the table holds the frozen words as well

    def save(self, path: Path, about: str) -> None:
        textual_inversion.save_tokens(path, dict(zip(self.words, self.module[0].detach(), strict=True)), about)


class LoraLearner:
    """Low-rank factors of the U-Net's attention, for all classes together."""

    def __init__(self, model: TextToImageModel, settings: dict[str, Any], device: torch.device) -> None:
        size, drawn = LoraSize(**settings["lora"]), torch.Generator().manual_seed(settings["seed"])
        self.module = LoraFactors(model.pipeline.unet, size.rank, size.alpha or float(size.rank), drawn).to(device)

    def save(self, path: Path, about: str) -> None:
        save_lora(path, self.module, about=about)


def learner(
    model: TextToImageModel, settings: dict[str, Any], names: Sequence[str], device: str | torch.device = "cpu"
) -> TextualInversionLearner | LoraLearner:
    """Return the learner of the chosen method, installed in the model. Raises ModelError where it does not fit."""
    if settings["method"] == "token":
        return TextualInversionLearner(model, settings, names)
    return LoraLearner(model, settings, torch.device(device))


class ConceptTask(generators.GeneratorTask):
    """Noise prediction on a few images, whose latents are encoded once; only the learner's parameters change."""

    model_file = MODEL_FILE

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        super().__init__(config, device)
        self.phase = ConceptPhase(**config["training"])
        self.images = first_per_class(self.images, config["per_class"])
        self.model = TextToImageModel(local_model(config["model"]), device)
        present = self.images.labels.unique().tolist()
        names = [self.classes[label] for label in present]
        self.learner = learner(self.model, config, names, device)
        self.prompts = {label: fill_prompt(config["prompt"], self.classes[label]) for label in present}
        self.name, self.num_inference_steps, self.flip = (
            Path(config["model"]).name,
            config["num_inference_steps"],
            config["flip"],
        )
        pixels, _ = take(self.images, np.arange(len(self.images.pixels)), torch.device("cpu"))
        pixels = pixels.expand(-1, 3, -1, -1)
        self.means, self.deviations = self.model.encode_images(torch.cat([pixels, pixels.flip(-1)]))
        self.learned = nn.ModuleList([self.learner.module])
        self.optimiser = torch.optim.AdamW(
            self.learned.parameters(), self.phase.learning_rate, weight_decay=self.phase.weight_decay
        )
        self.parts = {"learned": self.learned, "optimiser": self.optimiser}

    def step(self, step: int, progress: float) -> dict[str, float]:
        generators.set_rate(self.optimiser, self.phase, step, progress)
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(step)
        loss.backward()
        harness.average_gradients(self.learned.parameters())
        size = nn.utils.clip_grad_norm_(self.learned.parameters(), CLIP_NORM)
        self.optimiser.step()
        self.done = step + 1
        return {"loss": loss.item(), "gradient": size.item()}

    def loss(self, step: int) -> Tensor:
        """Return the loss of the batch of a step."""
        rng = self.generator_of(step)
        latents, labels = self._latents(rng)
        noise = self.on_device(rng.standard_normal(latents.shape, np.float32))
        times = self.on_device(rng.integers(0, len(self.model.shares), len(latents)))
        shares = self.model.shares[times]
        target = noise_prediction.prediction_target(self.model.kind, latents, noise, shares)
        with harness.autocast(self.device):
            noisy = noise_prediction.add_noise(latents, noise, shares)
            predicted = self.model.predict(noisy, times, self._prompt_embeddings(labels))
        return noise_prediction.prediction_loss(predicted, target)

    def _latents(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Latents [N, c, s, s] of a batch, drawn from what the encoder gives for each image; and its labels [N]."""
        rows = self.rows(rng, self.phase.batch_size)
        mirrored = rng.random(len(rows)) < (0.5 if self.flip else 0.0)
        places = torch.from_numpy(rows + mirrored * len(self.images.pixels)).to(self.device)
        drawn = self.on_device(rng.standard_normal((len(rows), *self.means.shape[1:]), np.float32))
        return self.means[places] + self.deviations[places] * drawn, self.images.labels[torch.from_numpy(rows)]

    def _prompt_embeddings(self, labels: Tensor) -> Tensor:
        """Embeddings [N, words, width] of the prompts of labels [N]; a prompt that occurs twice is encoded once."""
        present, places = labels.unique(return_inverse=True)
        return self.model.encode_prompts([self.prompts[label] for label in present.tolist()])[places.to(self.device)]

    @torch.no_grad()
    def grid(self) -> Tensor:
        """One class a column, at most eight: one of its images, and below what the model now makes."""
        labels = torch.tensor([*self.prompts][:SHOWN])
        firsts = [int((self.images.labels == label).nonzero()[0, 0]) for label in labels]
        shown, _ = take(self.images, np.array(firsts), torch.device("cpu"))
        made = self.samples(np.random.default_rng(self.seed), labels).cpu()
        return torch.stack([shown.expand(-1, 3, -1, -1), made]).add(1).div(2).clamp(0, 1)

    def samples(self, rng: np.random.Generator, labels: Tensor) -> Tensor:
        seeds = rng.integers(0, 2**31, len(labels)).tolist()
        prompts = [self.prompts[label] for label in labels.tolist()]
        return self.model.images(prompts, seeds, self.num_inference_steps, self.data.size_px)

    def save(self, path: Path, about: str) -> None:
        self.learner.save(path, f"{about}; for {self.name}")


def build(config: dict[str, Any], device: torch.device) -> ConceptTask:
    """ConceptTask from plain values: those of `ConceptConfig`, with the prompt, and the worker's rank."""
    return ConceptTask(config, device)
