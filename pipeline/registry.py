"""Every operator and every gate by name, as a lazy path: listing them imports none."""

import importlib
from typing import Any

from pipeline.contracts import Gate, Operator
from pipeline.errors import RecipeError
from pipeline.validation import nearest

OPERATORS = {
    "adain_style": "pipeline.operators.style.adain_style:AdaINStyle",
    "classical": "pipeline.operators.classical.classical:Classical",
    "color_transfer": "pipeline.operators.style.color_transfer:ColorTransfer",
    "diffusion_control": "pipeline.operators.diffusion.diffusion_control:DiffusionControl",
    "diffusion_edit": "pipeline.operators.diffusion.diffusion_edit:DiffusionEdit",
    "diffusion_generate": "pipeline.operators.diffusion.diffusion_generate:DiffusionGenerate",
    "diffusion_inpaint": "pipeline.operators.diffusion.diffusion_inpaint:DiffusionInpaint",
    "diffusion_mix": "pipeline.operators.diffusion.diffusion_mix:DiffusionMix",
    "fast_style": "pipeline.operators.style.fast_style:FastStyle",
    "flip": "pipeline.operators.classical.flip:Flip",
    "gan_synth": "pipeline.operators.gan.gan_synth:GanSynth",
    "mix_style": "pipeline.operators.style.mix_style:MixStyle",
    "neural_style": "pipeline.operators.style.neural_style:NeuralStyle",
    "style_randomization": "pipeline.operators.style.style_randomization:StyleRandomization",
    "texture_quilt": "pipeline.operators.texture.texture_quilt:TextureQuilt",
    "texture_synthesis": "pipeline.operators.texture.texture_synthesis:TextureSynthesis",
}

GATES = {
    "blank": "pipeline.gates.blank:Blank",
    "clip": "pipeline.gates.clip:Clip",
    "sharpness": "pipeline.gates.sharpness:Sharpness",
    "similarity": "pipeline.gates.similarity:Similarity",
}


def operator_class(name: str) -> type[Operator]:
    """Return the class of operator `name`.

    Raises:
        RecipeError: there is none; the message names the nearest.
    """
    found: type[Operator] = _class_of(name, OPERATORS, "operator")
    return found


def gate_class(name: str) -> type[Gate]:
    """Return the class of gate `name`.

    Raises:
        RecipeError: there is none; the message names the nearest.
    """
    found: type[Gate] = _class_of(name, GATES, "gate")
    return found


def _class_of(name: str, known: dict[str, str], noun: str) -> Any:
    if name not in known:
        raise RecipeError(f"no {noun} is called {name!r}{nearest(name, list(known))}")
    module, attribute = known[name].split(":")
    return getattr(importlib.import_module(module), attribute)
