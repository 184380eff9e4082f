"""Every operator and every gate by name: the built-in ones as lazy paths, and those of other packages.

A recipe names one by its built-in name, by the name of an entry point (`palimpsest.operators`, `palimpsest.gates`)
of an installed distribution, or as `module.path:Class`. A built-in name always wins over an entry point.
"""

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from pipeline.contracts import Gate, Operator, Parameters, Part
from pipeline.errors import JobError, RecipeError
from pipeline.messages import error_line, listed
from pipeline.packages import REFERENCE, Package, defines, find_package
from pipeline.requirements import SOURCE_TYPES
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

OURS = ("pipeline", "palimpsest", "jobs", "schemas")
"""Top-level packages of this distribution."""

P = TypeVar("P", bound=Part)


@dataclass(frozen=True)
class Kind(Generic[P]):
    """Operators or gates: the noun for messages, the base class, the built-in names, the group of entry points."""

    noun: str
    base: type[P]
    known: dict[str, str]
    group: str


OPERATOR: Kind[Operator] = Kind("operator", Operator, OPERATORS, "palimpsest.operators")  # type: ignore[type-abstract]
GATE: Kind[Gate] = Kind("gate", Gate, GATES, "palimpsest.gates")  # type: ignore[type-abstract]

_first_seen: dict[str, str] = {}
"""The sha256 of each outside module's code when this process imported it."""


def operator_class(name: str) -> type[Operator]:
    """Return the class of operator `name`, as a recipe writes it.

    Raises:
        RecipeError: there is none, or none that can be used; the message names the nearest.
    """
    return find_part(OPERATOR, name)[0]


def gate_class(name: str) -> type[Gate]:
    """Return the class of gate `name`, as a recipe writes it.

    Raises:
        RecipeError: there is none, or none that can be used; the message names the nearest.
    """
    return find_part(GATE, name)[0]


def find_part(kind: Kind[P], name: str) -> tuple[type[P], Package | None]:
    """Return the class that a recipe names, and its package; None for what is built in.

    Raises:
        RecipeError: there is none, several distributions offer one, or it is no operator or gate that can be used.
    """
    if name in kind.known:
        return built_in(kind, name), None
    if ":" in name:
        reference = name
        if not REFERENCE.fullmatch(name):
            raise RecipeError(f"{kind.noun} {name!r}: write a name, or module.path:Class")
    else:
        offered = offers(kind).get(name, ())
        if not offered:
            raise RecipeError(f"no {kind.noun} is called {name!r}{nearest(name, [*kind.known, *offers(kind)])}")
        if len(offered) > 1:
            those = listed(f"{distribution_of(offer)} ({offer.value})" for offer in offered)
            raise RecipeError(f"{kind.noun} {name!r}: offered by {those}; write the one you mean as module:Class")
        reference = offered[0].value.replace(" ", "")
        if not REFERENCE.fullmatch(reference):
            who = distribution_of(offered[0])
            raise RecipeError(f"{kind.noun} {name!r}: {who} offers {reference!r}, which is no module:Class")
    package = _found(kind, reference)
    found = _class_of(kind, package)
    if ":" not in name and found.name != name:
        raise RecipeError(
            f"{kind.noun} {name!r}: {package.short} offers {reference}, whose own name is {found.name!r}; "
            "an entry point and its class have one name"
        )
    return found, package


def built_in(kind: Kind[P], name: str) -> type[P]:
    """Return the class of a built-in name. Raises RecipeError where there is none."""
    if name not in kind.known:
        raise RecipeError(f"no {kind.noun} is called {name!r}{nearest(name, list(kind.known))}")
    module, attribute = kind.known[name].split(":")
    return cast(type[P], getattr(importlib.import_module(module), attribute))


def planned_class(kind: Kind[P], name: str, package: Package | None) -> type[P]:
    """Return the class that was planned as `name`: built in, or of exactly the code of its `package`.

    Raises:
        JobError: the code here is not the planned one, or only a data set's manifest names it.
    """
    if package is None:
        return built_in(kind, name)
    if not package.trusted:
        raise JobError(f"{kind.noun} {name!r}: code that a data set names ({package.reference}) is not imported")
    if (seen := _first_seen.get(package.reference)) is None:
        _check_same(kind, package)
    elif seen != package.sha256:
        raise JobError(f"{kind.noun} {package.reference}: this process imported other code than {package.short}")
    return _class_of(kind, package)


def approved(kind: Kind[P], package: Package, allowed: Sequence[str]) -> Package:
    """Return the package that a data set's manifest states as one that may be imported here.

    It may where the code that lies here is the stated one, and it is named in `allowed` (by the user), or an entry
    point of an installed distribution offers it, or it is of the stated distribution, defines the class and imports
    this product. Nothing is imported to find out.

    Raises:
        JobError: it is not here, or is other code, or nothing says that it is an operator or a gate.
    """
    here = _check_same(kind, package)
    offered = any(offer.value == package.reference for some in offers(kind).values() for offer in some)
    installed = here.distribution is not None and here.distribution == package.distribution
    if package.reference in allowed or offered or (installed and defines(package.reference)):
        return replace(package, trusted=True)
    raise JobError(
        f"{kind.noun} {package.reference}: the data set names code that no installed distribution offers; if it is "
        f"yours, say so: --allow {package.reference}"
    )


def offers(kind: Kind[P]) -> dict[str, tuple[EntryPoint, ...]]:
    """Return what installed distributions offer, by name; some names may be built in, or be offered twice."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for each in entry_points(group=kind.group):
        found[each.name] = (*found.get(each.name, ()), each)
    return dict(sorted(found.items()))


def distribution_of(offer: EntryPoint) -> str:
    """Return the name and the version of the distribution of an entry point."""
    return "an unknown distribution" if offer.dist is None else f"{offer.dist.name} {offer.dist.version}"


def _check_same(kind: Kind[P], package: Package) -> Package:
    """Return the package as it lies here. Raises JobError where it is not there, or is other code."""
    here = find_package(package.reference)
    if here is None:
        raise JobError(f"{kind.noun} {package.reference} ({package.short}) is not here; install it, on every node")
    if here.sha256 != package.sha256:
        raise JobError(
            f"{kind.noun} {package.reference} is other code here ({here.short}) than what was planned or recorded "
            f"({package.short}); install that, on every node"
        )
    return here


def _found(kind: Kind[P], reference: str) -> Package:
    if reference.split(".")[0].split(":")[0] in OURS:
        names = [name for name, path in kind.known.items() if path == reference]
        raise RecipeError(
            f"{reference} is of this product{f'; write {names[0]}' if names else f', and no {kind.noun}'}"
        )
    package = find_package(reference)
    if package is None:
        module = reference.partition(":")[0]
        raise RecipeError(
            f"{kind.noun} {reference}: there is no module {module!r} here; install its package, or put its folder on "
            "PYTHONPATH"
        )
    if _first_seen.get(reference, package.sha256) != package.sha256:
        raise RecipeError(f"{kind.noun} {reference}: its source changed since this process imported it; start anew")
    return package


def _class_of(kind: Kind[P], package: Package) -> type[P]:
    """Import a class of another package. Raises RecipeError where it is none that can be used."""
    module_name, _, attribute = package.reference.partition(":")
    who = f"{kind.noun} {package.reference}"
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise RecipeError(f"{who}: importing {module_name} raised {error_line(error)}") from error
    _first_seen.setdefault(package.reference, package.sha256)
    if not hasattr(module, attribute):
        near = [name for name, each in vars(module).items() if _is_of(kind, each)]
        raise RecipeError(f"{who}: {module_name} has no {attribute!r}{nearest(attribute, near) if near else ''}")
    found = getattr(module, attribute)
    if not _is_of(kind, found):
        raise RecipeError(f"{who}: it is no {kind.noun}; derive it from palimpsest.{kind.base.__name__}")
    if inspect.isabstract(found):
        raise RecipeError(f"{who}: it lacks {listed(sorted(found.__abstractmethods__))}")
    if (why := declaration_fault(found)) is not None:
        raise RecipeError(f"{who}: {why}")
    return cast(type[P], found)


def _is_of(kind: Kind[P], found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, kind.base) and found is not kind.base


def declaration_fault(found: type[Part]) -> str | None:
    """Return what is wrong with what a class declares; None where nothing is."""
    declared = {name: getattr(found, name, None) for name in ("name", "version", "source", "Params")}
    if not isinstance(declared["name"], str) or not declared["name"].isidentifier():
        return f"its name is {declared['name']!r}, and must be a text such as acme_blur"
    if type(declared["version"]) is not int or not 1 <= declared["version"] < 2**31:
        return f"its version is {declared['version']!r}, and must be a whole number from 1"
    if not isinstance(declared["source"], str):
        return "it has no source: the paper or library that its arithmetic comes from"
    if not isinstance(declared["Params"], type) or not issubclass(declared["Params"], Parameters):
        return "its Params must be a class derived from palimpsest.Parameters"
    if issubclass(found, Operator) and found.digital_source_type not in SOURCE_TYPES:
        return f"its digital_source_type is {found.digital_source_type!r}, and must be one of {listed(SOURCE_TYPES)}"
    return None
