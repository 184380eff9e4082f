"""Palimpsest from Python: labelled image shards in; augmented, marked, traceable training data out.

Every public name is one of this module's and is loaded when it is first used: `import palimpsest` brings no torch,
no Ray and no pandas. What begins with an underscore, and the packages `pipeline`, `schemas` and `jobs`, may change in
any version.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pipeline import __version__
    from pipeline.contracts import Applied, Draws, Gate, ImageBatch, MadeBatch, Operator, Parameters
    from pipeline.errors import (
        BudgetError,
        ConflictError,
        InputError,
        JobError,
        ModelError,
        PalimpsestError,
        RecipeError,
        RowError,
        RunError,
        StorageError,
        UnitError,
    )
    from pipeline.noise import Noise
    from pipeline.requirements import (
        NO_PARTNER,
        Assets,
        ClassRequirements,
        Fittable,
        Partner,
        PartnerRow,
        Pixels,
        ReferenceImage,
        Requirements,
    )
    from pipeline.seeding import generators

__all__ = [
    "NO_PARTNER",
    "Applied",
    "Assets",
    "BudgetError",
    "ClassRequirements",
    "ConflictError",
    "Draws",
    "Fittable",
    "Gate",
    "ImageBatch",
    "InputError",
    "JobError",
    "MadeBatch",
    "ModelError",
    "Noise",
    "Operator",
    "PalimpsestError",
    "Parameters",
    "Partner",
    "PartnerRow",
    "Pixels",
    "RecipeError",
    "ReferenceImage",
    "Requirements",
    "RowError",
    "RunError",
    "StorageError",
    "UnitError",
    "__version__",
    "generators",
]

_MODULES: Final = {
    "pipeline": ("__version__",),
    "pipeline.contracts": ("Applied", "Draws", "Gate", "ImageBatch", "MadeBatch", "Operator", "Parameters"),
    "pipeline.errors": (
        *("BudgetError", "ConflictError", "InputError", "JobError", "ModelError", "PalimpsestError", "RecipeError"),
        *("RowError", "RunError", "StorageError", "UnitError"),
    ),
    "pipeline.noise": ("Noise",),
    "pipeline.requirements": (
        *("NO_PARTNER", "Assets", "ClassRequirements", "Fittable", "Partner", "PartnerRow", "Pixels"),
        *("ReferenceImage", "Requirements"),
    ),
    "pipeline.seeding": ("generators",),
}
"""Where each public name is defined: the imports above, for the interpreter."""
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
