"""`operators`: what there is, and each one's parameters with type, range, default and source."""

import inspect
from typing import Any

from pipeline.contracts import Operator
from pipeline.registry import OPERATORS, operator_class


def show_operators(name: str | None) -> int:
    """`palimpsest operators [NAME]`."""
    if name is None:
        width = max(map(len, OPERATORS))
        for each in sorted(OPERATORS):
            print(f"{each:<{width}}  {_first_line(operator_class(each))}")
        return 0
    found = operator_class(name)
    print(f"{found.name} (version {found.version})\n{inspect.getdoc(found)}\n\nsource: {found.source}")
    print(
        f"marks its output as {found.digital_source_type}; GPU share an actor, unless the recipe says: {found.gpus:g}"
    )
    print("\nparameters")
    schema = found.Params.model_json_schema()
    for field, details in schema.get("properties", {}).items():
        print(f"  {field}: {_type(details)}{_default(details)}")
        if "description" in details:
            print(f"      {details['description']}")
    return 0


def _first_line(operator: type[Operator]) -> str:
    return (inspect.getdoc(operator) or "").splitlines()[0]


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
