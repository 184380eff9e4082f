"""Check that constants in `where` have the type of their column: no text for numbers, no number for texts.

Otherwise the comparison would silently take no row, or with `!=` and `not in` every row.
"""

import ast
import itertools
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from pipeline.messages import short_repr
from pipeline.shards.columns.column_types import is_string, plain


def type_problem(tree: ast.AST, kinds: Mapping[str, pa.DataType], classes: Mapping[str, Sequence[str]]) -> str | None:
    """Return what is wrong with the first constant that its column can never equal; None if there is none.

    Args:
        kinds: type of each column, by its name in the expression.
        classes: class names by index, for the columns that hold labels.
    """
    for name, value in _compared(tree):
        kind = kinds.get(name)
        if kind is None or value is None:
            continue
        if is_string(kind) and isinstance(value, bool | int | float):
            return f"column {name!r} holds texts, and {value!r} is none, so no row equals it; write a text in quotes"
        if _is_number(plain(kind)) and isinstance(value, str):
            names = classes.get(name, ())
            remedy = f"{names.index(value)}, the number of that class" if value in names else "a number"
            return (
                f"column {name!r} holds numbers, and {short_repr(value)} is none, so no row equals it; write {remedy}"
            )
    return None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _compared(tree: ast.AST) -> Iterator[tuple[str, object]]:
    """Yield every column that is compared with a constant, and the constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for left, right in itertools.pairwise([node.left, *node.comparators]):
                yield from ((name, value) for name in _name(left) for value in _constants(right))
                yield from ((name, value) for name in _name(right) for value in _constants(left))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "isin":
            values = [value for part in node.args for value in _constants(part)]
            yield from ((name, value) for name in _name(node.func.value) for value in values)


def _name(node: ast.AST) -> tuple[str, ...]:
    return (node.id,) if isinstance(node, ast.Name) else ()


def _constants(node: ast.AST) -> Iterator[object]:
    parts = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
    for part in parts:
        inner = part.operand if isinstance(part, ast.UnaryOp) else part
        if isinstance(inner, ast.Constant):
            yield inner.value
