"""Base of the diffusion operators: loading a backend, drawing its inputs, and generating images from the draws."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipeline.contracts import Applied, Assets, Draws, ImageBatch, Operator, Pixels, Requirements
from pipeline.diffusion import prompts
from pipeline.diffusion.strength import draw_guidance, draw_step_count
from pipeline.errors import JobError, ModelError, RowError
from pipeline.model_files.class_labels import class_indexes
from pipeline.noise import Noise
from pipeline.operators.bases.diffusion_parameters import DiffusionParameters, RedrawParameters
from pipeline.requirements import ClassRequirements

if TYPE_CHECKING:
    import numpy as np

    from pipeline.diffusion.backends import DiffusionBackend, Output

UNSAFE = "unsafe"
CLIP_TEXT = "a photo of a {label}"


class DiffusionOperator(Operator):
    """Base of the diffusion operators: loads a backend, draws its requests, and turns its outputs into pixels."""

    task: ClassVar[Literal["control", "edit", "generate", "inpaint"]]
    params: DiffusionParameters

    def requirements(self) -> Requirements:
        """The model, its LoRA, learned tokens and CLIP model, if any, and the columns that prompts name."""
        params = self.params
        models = {
            "model": params.model,
            "lora": params.lora,
            "textual_inversion": params.textual_inversion,
            "clip_model": params.clip_model,
        }
        texts = {"prompt": params.prompt, "negative_prompt": params.negative_prompt}
        if params.clip_prompt is not None:
            texts["clip_prompt"] = ((params.clip_prompt, 1.0),)
        return Requirements(
            models={name: reference for name, reference in models.items() if reference is not None},
            columns={name: prompts.columns_of(templates) for name, templates in texts.items()},
            classes=self.class_requirements(),
        )

    def class_requirements(self) -> ClassRequirements:
        """The image's own class: for the model or its prompt, and for the text of CLIP guidance."""
        params = self.params
        conditioned = params.condition == "class"
        by_class = params.clip_model is not None and params.clip_prompt is None and conditioned
        return ClassRequirements(
            model="model" if conditioned else None,
            templates={"clip_prompt": (params.clip_prompt,)} if params.clip_prompt is not None else {},
            text_prompts={
                name: tuple(template for template, _ in templates)
                for name, templates in (("prompt", params.prompt), ("negative_prompt", params.negative_prompt))
            },
            guidance_prompts={"clip_prompt": (CLIP_TEXT,)} if by_class else {},
            classless_option="condition: none" if conditioned else None,
            classless_by=None if conditioned else "condition: none",
        )

    def load(self, device: str, assets: Assets) -> None:
        """Load the backend. Raises ModelError where the model does not fit the parameters."""
        from pipeline.diffusion.backends import Settings, load_backend

        params = self.params
        settings = Settings(
            task=self.task,
            steps=params.steps,
            method=params.method,
            scheduler=params.scheduler,
            size_px=params.size_px,
            lora_scale=params.lora_scale,
            negative=bool(params.negative_prompt),
            control_scale=getattr(params, "control_scale", 1.0),
            dtype=assets.dtype,
            compiled_rows=(assets.micro_batch or self.micro_batch) if params.compile else None,
            decode=params.decode,
            clip_guidance_scale=params.clip_guidance_scale,
        )
        self._device = device
        self._backend: DiffusionBackend = load_backend(assets.models, device, settings)
        self._check(assets)
        once = ("strength",) if isinstance(params, RedrawParameters) else ()
        self.once_per_call = (*once, "guidance") if self._backend.one_guidance else once

    def _check(self, assets: Assets) -> None:
        params, backend, model = self.params, self._backend, assets.models["model"]
        if backend.takes_text:
            return
        if params.guidances != (1.0, 1.0) and not backend.without_class:
            raise ModelError(f"model {model}: it has no class of none, which guidance needs; leave guidance out")
        if self.task == "generate" and params.condition == "class" and not backend.class_count:
            raise ModelError(f"model {model}: it knows no classes; write `condition: none` to make images of any")

    # ---- draw ----

    def draw_columns(
        self, batch: ImageBatch, labels: Sequence[int], own: Sequence["np.random.Generator"]
    ) -> dict[str, list[Any]]:
        """Draw class or prompt, strength and guidance of every sample; `labels` [N] are the classes of the outputs.

        own: the samples' random generators, which are advanced.
        """
        params, backend = self.params, self._backend
        columns: dict[str, list[Any]] = {"class_index": self.indexes(labels, batch.classes)[0]}
        if isinstance(params, RedrawParameters):
            runs = [draw_step_count(each, params.steps, params.strength_range, params.strengths) for each in own]
            columns["strength"] = [run / params.steps for run in runs]
        columns["guidance"] = [draw_guidance(each, params.guidances, backend.one_guidance) for each in own]
        if backend.takes_text:
            templates = prompts.PromptTemplates(params.prompt, params.negative_prompt)
            names = [self._name(batch.classes, label) for label in labels]
            columns["prompt"], columns["negative_prompt"] = templates.draw(own, names, batch.columns)
            columns["prompt_sha256"] = [prompts.text_sha256(text) for text in columns["prompt"]]
        if params.clip_model is not None:
            columns["clip_prompt"] = self._clip_texts(batch, labels, own, columns)
        return columns

    def _clip_texts(
        self,
        batch: ImageBatch,
        labels: Sequence[int],
        own: Sequence["np.random.Generator"],
        columns: dict[str, list[Any]],
    ) -> list[str | None]:
        """Return the text of CLIP guidance for each image; empty (none) where it has neither class nor prompt."""
        template = self.params.clip_prompt
        if template is None and "prompt" in columns:
            return list(columns["prompt"])
        names = [self._name(batch.classes, label) for label in labels]
        templates = prompts.PromptTemplates(((template or CLIP_TEXT, 1.0),))
        found = templates.draw(own, names, batch.columns)[0]
        return [text if name or template is not None else "" for text, name in zip(found, names, strict=True)]

    def indexes(self, labels: Sequence[int], names: Sequence[str]) -> tuple[list[int], dict[int, RowError]]:
        """Return the model's class of each label (-1: none), and a RowError where the model has no such class."""
        backend = self._backend
        if self.params.condition == "none" or not backend.class_count:
            labels = [-1] * len(labels)
        found, errors = class_indexes(labels, names, backend.classes, backend.class_count)
        if backend.class_count and not backend.without_class:
            bare = RowError("unknown_class", "the row has no label, and the model makes nothing without a class")
            errors |= {row: bare for row, index in enumerate(found) if index < 0 and row not in errors}
        return found, errors

    def _name(self, classes: Sequence[str], label: int) -> str:
        named = self.params.condition == "class" and 0 <= label < len(classes)
        return str(classes[label]) if named else ""

    # ---- apply ----

    def generate(self, batch: ImageBatch, draws: Draws, noise: Noise, **images: Any) -> "Output":
        """Generate images from the draws; `images` are the tensor fields of `Request`: sources, masks, edges."""
        from pipeline.diffusion.backends import Request, generate_in_groups

        count, columns = len(batch), draws.columns
        shape = self._backend.noise_shape
        strengths = columns.get("strength", [1.0] * count)
        request = Request(
            seeds=batch.seeds,
            indexes=columns["class_index"],
            runs=[round(strength * self.params.steps) for strength in strengths],
            guidance=columns["guidance"],
            prompts=[text or "" for text in columns.get("prompt", [None] * count)],
            negatives=[text or "" for text in columns.get("negative_prompt", [None] * count)],
            noise=noise.normal(*shape).to(self._device) if shape else None,
            texts=[text or "" for text in columns["clip_prompt"]] if "clip_prompt" in columns else None,
            **images,
        )
        return generate_in_groups(self._backend, request)

    def sources(self, batch: ImageBatch) -> Any:
        """Return the batch's images as a tensor [N, C, H, W] in [-1, 1]. Raises JobError where there are none."""
        import numpy as np
        import torch

        from pipeline.networks.pixel_tensors import from_pixels

        if batch.images is None:
            raise JobError(f"{self.name}: there are no images to edit; put it after an operator that makes some")
        return from_pixels(torch.from_numpy(np.array(batch.images, order="C")).to(self._device))

    def applied(self, made: "Output", errors: Mapping[int, RowError], draws: Draws, **labels: Any) -> Applied:
        """Return the output as pixels; `non_finite`, `black` and `unsafe` images are rejected; null prompts, errors."""
        from pipeline.networks import pixel_tensors

        pixels = pixel_tensors.to_pixels(made.images)
        rejected = {**pixel_tensors.flaws(made.images, pixels), **dict.fromkeys(made.unsafe, UNSAFE)}
        for name in ("prompt", "negative_prompt", "clip_prompt"):
            errors = {**prompts.missing_prompts(draws.columns.get(name, ())), **errors}
        images: Pixels = pixels.numpy()
        return Applied(images, rejected=rejected, errors=errors, **labels)
