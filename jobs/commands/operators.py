"""`palimpsest operators`: operators and gates, and each one's parameters with type, range, default and source."""

import argparse
import contextlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.contracts import Part
    from pipeline.packages import Package
    from pipeline.registry import Kind

HELP = "list operators and gates, or one's parameters"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", nargs="?", help="built in, of an entry point, or module.path:Class")


def call(options: argparse.Namespace) -> int:
    """Print the list of operators and gates, or what one of them is and takes."""
    from pipeline.contracts import Operator
    from pipeline.registry import GATE, OPERATOR

    if options.name is None:
        _list(OPERATOR)
        print("\ngates (quality.gates)")
        _list(GATE)
        return 0
    found, package = _named(options.name)
    print(f"{found.name} (version {found.version})\n{inspect.getdoc(found)}\n\nsource: {found.source}")
    if package is not None:
        print(f"code: {package.reference} of {package}")
    if issubclass(found, Operator):
        share = f"GPU share an actor, unless the recipe says: {found.gpus:g}"
        print(f"marks its output as {found.digital_source_type}; {share}")
    elif getattr(found, "requires_source", False):
        print("a gate; scores branches with source rows only")
    else:
        print("a gate")
    print("\nparameters")
    schema = found.Params.model_json_schema()
    for field, details in schema.get("properties", {}).items():
        print(f"  {field}: {_type(details)}{_default(details)}")
        if "description" in details:
            print(f"      {details['description']}")
    return 0


def _list(kind: "Kind[Any]") -> None:
    """Print the built-in ones, and those that installed distributions offer; one that cannot be used says why."""
    from pipeline.errors import RecipeError
    from pipeline.registry import built_in, distribution_of, find_part, offers

    offered = offers(kind)
    width = max(map(len, (*kind.known, *offered)))
    for name in sorted(kind.known):
        print(f"{name:<{width}}  {_first_line(built_in(kind, name))}")
    for name, some in offered.items():
        who = ", ".join(map(distribution_of, some))
        if name in kind.known:
            print(f"{name:<{width}}  ({who} offers another; the built-in one is used: write it as {some[0].value})")
            continue
        try:
            print(f"{name:<{width}}  {_first_line(find_part(kind, name)[0])} ({who})")
        except RecipeError as error:
            print(f"{name:<{width}}  cannot be used: {error} ({who})")


def _named(name: str) -> "tuple[type[Part], Package | None]":
    from pipeline.errors import RecipeError
    from pipeline.registry import GATE, OPERATOR, find_part, offers
    from pipeline.validation import nearest

    if ":" in name:
        try:
            return find_part(OPERATOR, name)
        except RecipeError:
            with contextlib.suppress(RecipeError):
                return find_part(GATE, name)
            raise
    known: list[str] = []
    for kind in (GATE, OPERATOR):
        names = [*kind.known, *offers(kind)]
        if name in names:
            return find_part(kind, name)
        known += names
    raise RecipeError(f"no operator and no gate is called {name!r}{nearest(name, known)}")


def _first_line(part: "type[Part]") -> str:
    return (inspect.getdoc(part) or "-").splitlines()[0]


def _type(details: dict[str, Any]) -> str:
    if "enum" in details:
        return " | ".join(map(str, details["enum"]))
    if "anyOf" in details:
        return " | ".join(_type(option) for option in details["anyOf"])
    bounds = [
        f"{sign} {details[key]:g}"
        for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
        if key in details
    ]
    kind = details.get("type", "any")
    if kind == "array" and "prefixItems" in details:
        kind = f"[{', '.join(_type(item) for item in details['prefixItems'])}]"
    return " ".join([str(kind), *bounds])


def _default(details: dict[str, Any]) -> str:
    return f" = {details['default']}" if "default" in details else " (required)"
