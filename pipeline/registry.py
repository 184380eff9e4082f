"""Every operator by name, as a lazy path: listing them imports none."""

import importlib

from pipeline.contracts import Operator
from pipeline.errors import RecipeError
from pipeline.validation import nearest

OPERATORS = {
    "adain_style": "pipeline.operators.adain_style:AdaINStyle",
    "classical": "pipeline.operators.classical:Classical",
    "diffusion_edit": "pipeline.operators.diffusion_edit:DiffusionEdit",
    "diffusion_generate": "pipeline.operators.diffusion_generate:DiffusionGenerate",
    "flip": "pipeline.operators.flip:Flip",
    "gan_synth": "pipeline.operators.gan_synth:GanSynth",
}


def operator_class(name: str) -> type[Operator]:
    """Return the class of operator `name`.

    Raises:
        RecipeError: there is none; the message names the nearest.
    """
    if name not in OPERATORS:
        raise RecipeError(f"no operator is called {name!r}{nearest(name, list(OPERATORS))}")
    module, attribute = OPERATORS[name].split(":")
    found: type[Operator] = getattr(importlib.import_module(module), attribute)
    return found
