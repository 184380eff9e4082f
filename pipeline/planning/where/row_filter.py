"""`where`: which source rows a branch takes, as a pandas expression over the light columns (without image data).

Rows are evaluated in batches whose size depends on the run. So only elementwise expressions are allowed
(`allowed_functions.py`), and every column has the type of its schema, with or without nulls. A comparison with null is
false; `isna()` finds nulls.
"""

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import RecipeError, UnitError
from pipeline.messages import one_line, short_repr
from pipeline.planning.where.allowed_functions import ELEMENTWISE, FUNCTIONS, METHODS, TEXT_METHODS, TIME_FIELDS
from pipeline.planning.where.expression_size import QUOTED, text_problem, tree_problem
from pipeline.planning.where.expression_types import type_problem
from pipeline.shards.columns.column_types import is_string, plain
from pipeline.shards.columns.layout import Layout
from pipeline.shards.reader import SourceRow
from pipeline.validation import nearest

if TYPE_CHECKING:
    import pandas as pd


class RowFilter:
    """The filter of one branch. The label column is also called `label`; `row` is the index of a row in its shard.

    Args:
        where: an expression such as `label in (2, 4) and split == "train"`; None takes every row.
        layout: the columns; None for a recipe without source rows.
    """

    def __init__(self, where: str | None, layout: Layout | None) -> None:
        self._where = where
        self._layout = layout
        self._expression = " ".join((where or "").split("\n")).strip()

    def of(self, rows: Sequence[SourceRow]) -> list[int]:
        """Return the indexes of the rows that are taken, ascending.

        Raises:
            UnitError: the expression fails on these rows, though it did not on the first rows of the input.
        """
        if self._where is None or not rows:
            return list(range(len(rows)))
        try:
            return [int(index) for index in np.flatnonzero(self._taken(rows))]
        except Exception as error:
            where = f"{rows[0].uri} rows {rows[0].row} to {rows[-1].row}"
            raise UnitError(f"{where}: where = {short_repr(self._where)}: {_reason(error)}") from error

    def columns_used(self) -> set[str]:
        """Return the columns that the expression uses, `label` and `row` included. Call `check` first."""
        named = {node.id for node in ast.walk(self._parsed()) if isinstance(node, ast.Name)}
        return named & set(self._columns())

    def check(self) -> None:
        """Parse the expression and check that it is allowed.

        Raises:
            RecipeError: it does not parse, uses an unknown column, or is not elementwise.
        """
        if not self._expression:
            raise self._error("it is empty; leave it out to take every row")
        problem = text_problem(self._expression)
        if problem is not None:
            raise self._error(problem)
        columns = {f"_quoted_{place}": name for place, name in enumerate(self._quoted())}
        text = QUOTED.sub(self._unquoted(), self._expression)
        try:
            tree = ast.parse(text, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._error(f"cannot be read: {_reason(getattr(error, 'msg', error))}{self._known()}") from None
        texts = {name for name in self._columns() if self._is_long(name)}
        problem = tree_problem(tree, {*texts, *(quoted for quoted, name in columns.items() if name in texts)})
        if problem is not None:
            raise self._error(problem)
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        spaces = (node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        spaces = (node for node in spaces if isinstance(node, ast.Attribute) and node.attr in ("str", "dt"))
        inner = called | {id(node) for node in spaces}
        for node in ast.walk(tree):
            self._check_node(node, inner, columns)

    def check_kinds(self) -> None:
        """Raise RecipeError if a column is compared with a constant that it never equals. Call `check` first."""
        assert self._layout is not None
        layout, label = self._layout, self._layout.carried_label
        kinds = {field.name: field.type for field in layout.schema}
        kinds |= {"label": kinds[label] if label else pa.int64(), "row": pa.int64()}
        names = layout.classes or ()
        problem = type_problem(self._parsed(), kinds, {"label": names, **({label: names} if label else {})})
        if problem is not None:
            raise self._error(problem)

    def try_on(self, rows: Sequence[SourceRow]) -> None:
        """Evaluate the expression on some rows, together and one by one.

        Raises:
            RecipeError: it fails, is not boolean, or gives another result for a row in a batch than alone.
        """
        try:
            together, alone = self._taken(rows), [self._taken([row])[0] for row in rows]
        except RecipeError:
            raise
        except Exception as error:
            raise self._error(f"{_reason(error)}{self._known()}") from None
        if together.tolist() != alone:
            raise self._error("it says something else of a row alone than among others; write a condition of one row")

    def _check_node(self, node: ast.AST, inner: set[int], columns: dict[str, str]) -> None:
        if not isinstance(node, ELEMENTWISE) or isinstance(node, ast.Is | ast.IsNot):
            raise self._error(f"{type(node).__name__} is not for conditions of one row")
        if isinstance(node, ast.Name) and id(node) not in inner:
            name, known = columns.get(node.id, node.id), self._columns()
            if name not in known:
                near = nearest(name, known)
                raise self._error(f"there is no column {name!r}{near}{self._known() if 'known' not in near else ''}")
        if isinstance(node, ast.Compare):
            for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                listed = isinstance(operator, ast.In | ast.NotIn)
                if isinstance(left, ast.List | ast.Tuple) or _is_list(right) != listed:
                    raise self._error("a list stands behind `in` or `not in` alone, and there must be one: (2, 4)")
        if isinstance(node, ast.BoolOp | ast.BinOp | ast.UnaryOp):
            parts = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.List | ast.Tuple)]
            if parts:
                raise self._error("a list stands behind `in` or `not in` alone")
        if isinstance(node, ast.Call):
            self._check_call(node)
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            of_time = isinstance(node.value, ast.Attribute) and node.value.attr == "dt" and node.attr in TIME_FIELDS
            if not of_time:
                raise self._error(f"`.{node.attr}` is not for conditions of one row")

    def _check_call(self, node: ast.Call) -> None:
        made = node.func
        if isinstance(made, ast.Name):
            if made.id not in FUNCTIONS or node.keywords or any(_is_list(part) for part in node.args):
                raise self._error(f"`{made.id}(...)` is not for conditions of one row")
            return
        of_text = isinstance(made, ast.Attribute) and isinstance(made.value, ast.Attribute) and made.value.attr == "str"
        known = TEXT_METHODS if of_text else METHODS
        if not isinstance(made, ast.Attribute) or made.attr not in known:
            name = getattr(made, "attr", "call")
            raise self._error(
                f"`.{name}()` is not for conditions of one row: rows are taken one by one, whatever the others are"
            )
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        if (node.keywords and not of_text) or not all(_is_constant(value) or _is_list(value) for value in values):
            raise self._error(f"`.{made.attr}()` takes constants, such as `.isin([1, 2])`")

    def _taken(self, rows: Sequence[SourceRow]) -> npt.NDArray[np.bool_]:
        """Return [rows] bool: which rows are taken. An expression without columns is evaluated once for all."""
        found = np.broadcast_to(np.asarray(self._frame(rows).eval(self._expression, engine="python")), len(rows))
        if found.dtype == np.bool_:
            return found
        values = found.tolist()  # with nulls, where a column holds some
        if found.dtype != np.object_ or not all(isinstance(value, bool) or _is_null(value) for value in values):
            raise self._error("not a condition; write a comparison, such as `label == 2`")
        return np.array([value is True for value in values], np.bool_)

    def _frame(self, rows: Sequence[SourceRow]) -> "pd.DataFrame":
        import pandas as pd  # half a second that only a run with `where` needs

        assert self._layout is not None
        schema, label = self._layout.schema, self._layout.carried_label
        columns = {name: _series([row.light[name] for row in rows], schema.field(name).type) for name in rows[0].light}
        columns["label"] = _series([row.label for row in rows], schema.field(label).type if label else pa.int64())
        columns["row"] = _series([row.row for row in rows], pa.int64())
        return pd.DataFrame(columns)

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(["label", "row", *(self._layout.light if self._layout else ())]))

    def _is_long(self, name: str) -> bool:
        """Return whether a column holds texts or lists, which `+` and `*` would make longer."""
        label = self._layout.carried_label if self._layout else None
        if self._layout is None or name == "row" or (name == "label" and label is None):
            return False
        kind = plain(self._layout.schema.field(label if name == "label" and label else name).type)
        return not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind))

    def _known(self) -> str:
        return f" (columns: {', '.join(self._columns())})"

    def _parsed(self) -> ast.AST:
        """Return the syntax tree of an expression that parses, with names in backquotes as they are written."""
        quoted = {f"_quoted_{place}": name for place, name in enumerate(self._quoted())}
        tree = ast.parse(QUOTED.sub(self._unquoted(), self._expression), mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = quoted.get(node.id, node.id)
        return tree

    def _quoted(self) -> list[str]:
        return [found[1] for found in QUOTED.finditer(self._expression) if found[1] is not None]

    def _unquoted(self) -> Any:
        places = iter(range(len(self._quoted())))
        return lambda found: found[0] if found[1] is None else f"_quoted_{next(places)}"

    def _error(self, text: str) -> RecipeError:
        return RecipeError(f"where = {short_repr(self._where)}: {text}")


def _is_constant(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant)


def _is_list(node: ast.AST) -> bool:
    return isinstance(node, ast.List | ast.Tuple) and all(_is_constant(element) for element in node.elts)


def _is_null(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value != value


def _series(values: list[Any], kind: pa.DataType) -> "pd.Series[Any]":
    """Return a pandas column whose type depends on the schema only, not on the values."""
    import pandas as pd

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    dtype: str | None = None
    if pa.types.is_integer(kind):
        dtype = "UInt64" if pa.types.is_uint64(kind) else "Int64"
    elif pa.types.is_floating(kind):
        dtype = "Float64"
    elif pa.types.is_boolean(kind):
        dtype = "boolean"
    elif is_string(kind):
        dtype = "string"
    elif pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        timed: pd.Series[Any] = pa.array(values, kind).to_pandas()
        return timed
    return pd.Series(values, dtype=dtype or "object")


def _reason(error: object) -> str:
    return one_line(error) or type(error).__name__
