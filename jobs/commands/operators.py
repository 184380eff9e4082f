"""`palimpsest operators`: operators and gates, and each one's parameters with type, range, default and source."""

import argparse
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.contracts import Gate, Operator, Part

HELP = "list operators and gates, or one's parameters"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", nargs="?")


def call(options: argparse.Namespace) -> int:
    """Print the list of operators and gates, or what one of them is and takes."""
    from pipeline.contracts import Operator
    from pipeline.registry import GATES, OPERATORS, gate_class, operator_class

    if options.name is None:
        width = max(map(len, (*OPERATORS, *GATES)))
        for each in sorted(OPERATORS):
            print(f"{each:<{width}}  {_first_line(operator_class(each))}")
        print("\ngates (quality.gates)")
        for each in sorted(GATES):
            print(f"{each:<{width}}  {_first_line(gate_class(each))}")
        return 0
    found = _named(options.name)
    print(f"{found.name} (version {found.version})\n{inspect.getdoc(found)}\n\nsource: {found.source}")
    if issubclass(found, Operator):
        share = f"GPU share an actor, unless the recipe says: {found.gpus:g}"
        print(f"marks its output as {found.digital_source_type}; {share}")
    elif found.requires_source:
        print("a gate; judges branches with source rows only")
    else:
        print("a gate")
    print("\nparameters")
    schema = found.Params.model_json_schema()
    for field, details in schema.get("properties", {}).items():
        print(f"  {field}: {_type(details)}{_default(details)}")
        if "description" in details:
            print(f"      {details['description']}")
    return 0


def _named(name: str) -> "type[Operator] | type[Gate]":
    from pipeline.errors import RecipeError
    from pipeline.registry import GATES, OPERATORS, gate_class, operator_class
    from pipeline.validation import nearest

    if name in GATES:
        return gate_class(name)
    if name in OPERATORS:
        return operator_class(name)
    raise RecipeError(f"no operator and no gate is called {name!r}{nearest(name, [*OPERATORS, *GATES])}")


def _first_line(part: "type[Part]") -> str:
    return (inspect.getdoc(part) or "").splitlines()[0]


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
