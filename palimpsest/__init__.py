"""Palimpsest from Python: labelled image shards in; augmented, marked, traceable training data out.

Every public name is one of this module's and is loaded when it is first used: `import palimpsest` brings no torch,
no Ray and no pandas. What begins with an underscore, and the packages `pipeline`, `schemas` and `jobs`, may change in
any version.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from palimpsest.catalogue import gates, operators
    from palimpsest.datasets import replay, report, status, trace, verify
    from palimpsest.runs import RunResult, plan, run
    from pipeline import __version__
    from pipeline.audit.replay import ReplayResult
    from pipeline.audit.trace import TraceResult
    from pipeline.audit.verification import Verification
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
    from pipeline.plan import Plan
    from pipeline.planning.estimate import BranchEstimate, estimate
    from pipeline.publishing.status import BranchStatus, DatasetStatus, Driver
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
    from pipeline.watermark_key import read_key
    from schemas.manifest import Counts, Failure, Manifest, UnitRecord
    from schemas.recipe import Recipe

__all__ = [
    "NO_PARTNER",
    "Applied",
    "Assets",
    "BranchEstimate",
    "BranchStatus",
    "BudgetError",
    "ClassRequirements",
    "ConflictError",
    "Counts",
    "DatasetStatus",
    "Draws",
    "Driver",
    "Failure",
    "Fittable",
    "Gate",
    "ImageBatch",
    "InputError",
    "JobError",
    "MadeBatch",
    "Manifest",
    "ModelError",
    "Noise",
    "Operator",
    "PalimpsestError",
    "Parameters",
    "Partner",
    "PartnerRow",
    "Pixels",
    "Plan",
    "Recipe",
    "RecipeError",
    "ReferenceImage",
    "ReplayResult",
    "Requirements",
    "RowError",
    "RunError",
    "RunResult",
    "StorageError",
    "TraceResult",
    "UnitError",
    "UnitRecord",
    "Verification",
    "__version__",
    "estimate",
    "gates",
    "generators",
    "operators",
    "plan",
    "read_key",
    "replay",
    "report",
    "run",
    "status",
    "trace",
    "verify",
]

_MODULES: Final = {
    "palimpsest.catalogue": (
        "gates",
        "operators",
    ),
    "palimpsest.datasets": (
        "replay",
        "report",
        "status",
        "trace",
        "verify",
    ),
    "palimpsest.runs": (
        "RunResult",
        "plan",
        "run",
    ),
    "pipeline": ("__version__",),
    "pipeline.audit.replay": ("ReplayResult",),
    "pipeline.audit.trace": ("TraceResult",),
    "pipeline.audit.verification": ("Verification",),
    "pipeline.contracts": (
        "Applied",
        "Draws",
        "Gate",
        "ImageBatch",
        "MadeBatch",
        "Operator",
        "Parameters",
    ),
    "pipeline.errors": (
        "BudgetError",
        "ConflictError",
        "InputError",
        "JobError",
        "ModelError",
        "PalimpsestError",
        "RecipeError",
        "RowError",
        "RunError",
        "StorageError",
        "UnitError",
    ),
    "pipeline.noise": ("Noise",),
    "pipeline.plan": ("Plan",),
    "pipeline.planning.estimate": (
        "BranchEstimate",
        "estimate",
    ),
    "pipeline.publishing.status": (
        "BranchStatus",
        "DatasetStatus",
        "Driver",
    ),
    "pipeline.requirements": (
        "NO_PARTNER",
        "Assets",
        "ClassRequirements",
        "Fittable",
        "Partner",
        "PartnerRow",
        "Pixels",
        "ReferenceImage",
        "Requirements",
    ),
    "pipeline.seeding": ("generators",),
    "pipeline.watermark_key": ("read_key",),
    "schemas.manifest": (
        "Counts",
        "Failure",
        "Manifest",
        "UnitRecord",
    ),
    "schemas.recipe": ("Recipe",),
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
