"""Limits on the size of a `where` expression, so that its evaluation needs little time and memory."""

import ast
import re
from collections.abc import Collection

MAX_CHARACTERS = 65_536
MAX_BRACKETS = 32
MAX_PARTS = 500
"""Most names, comparisons, calls and so on; constants in lists are counted by MAX_LISTED."""
MAX_DEPTH = 32
MAX_LISTED = 10_000
MAX_NUMBER = 2**64
MAX_EXPONENT = 16
MAX_CHOICES = 8
"""Most repetitions and alternatives in a pattern: the time to match grows exponentially with them."""
MAX_GROWTH = 4_096
"""Largest factor by which replacements may make a text longer."""

QUOTED = re.compile(r"\"(?:\\.?|[^\"\\])*(?:\"|$)|'(?:\\.?|[^'\\])*(?:'|$)|`([^`]*)`")
"""Matches string literals, and names in backticks (group 1). An unterminated string extends to the end."""
_CLASSES = re.compile(r"\\.|\[\^?\]?(?:\\.?|[^\]\\])*(?:\]|$)")
_CHOICE = re.compile(r"[*+?{][?+]?")
_REGEX_METHODS = ("contains", "match", "fullmatch", "replace", "count")
_OTHERWISE = ("isin", "isna", "notna", "isnull", "notnull", "between", "contains", "match", "fullmatch", "startswith",
              "endswith", "len", "count", "find")  # fmt: skip
"""Methods of texts whose result is a number or a boolean."""


def text_problem(text: str) -> str | None:
    """Return why an expression is too large to be parsed; None if it is not."""
    if len(text) > MAX_CHARACTERS:
        return f"it has {len(text):,} characters, and {MAX_CHARACTERS:,} are the most"
    depth = 0
    for character in QUOTED.sub("", text):
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_BRACKETS:
            return f"its brackets are nested more than {MAX_BRACKETS} deep"
    return None


def tree_problem(tree: ast.AST, texts: Collection[str] = ()) -> str | None:
    """Return why a parsed expression is too large to be evaluated; None if it is not.

    Args:
        texts: names of columns of texts or lists, which `*` would make longer.
    """
    parts = listed = 0
    waiting = [(tree, 0, 1)]
    while waiting:
        node, depth, growth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"it is nested more than {MAX_DEPTH} deep"
        growth *= 1 + _replacement(node)
        if growth > MAX_GROWTH:
            return f"its `.str.replace()` could make a text more than {MAX_GROWTH:,} times as long"
        here: list[ast.AST] = [node]
        if isinstance(node, ast.List | ast.Tuple):  # of constants, as is checked elsewhere
            listed += len(node.elts)
            here = [value.operand if isinstance(value, ast.UnaryOp) else value for value in node.elts]
        else:
            parts += not isinstance(node, ast.expr_context | ast.operator | ast.cmpop | ast.boolop | ast.unaryop)
            waiting.extend((child, depth + 1, growth) for child in ast.iter_child_nodes(node))
        if parts > MAX_PARTS or listed > MAX_LISTED:
            return f"it has more than {MAX_PARTS} parts, or lists of more than {MAX_LISTED:,} values"
        problem = next((problem for each in here if (problem := _node_problem(each, texts)) is not None), None)
        if problem is not None:
            return problem
    return None


def _node_problem(node: ast.AST, texts: Collection[str]) -> str | None:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, int | float) and not abs(node.value) < MAX_NUMBER:
            return "a number in it is larger than 64 bits"
        if isinstance(node.value, complex | bytes) or node.value is ...:
            return f"{node.value!r} is not for conditions of one row"
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Pow):
            exponent = node.right.value if isinstance(node.right, ast.Constant) else None
            if not isinstance(exponent, int | float) or abs(exponent) > MAX_EXPONENT or not _has_column(node.left):
                return f"`**` takes a column, and a number of {MAX_EXPONENT} at most"
        elif not isinstance(node.op, ast.Add) and any(_may_be_text(part, texts) for part in (node.left, node.right)):
            return "a text or a list is compared or added to another, and nothing else"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _REGEX_METHODS:
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        for value in values:
            problem = _pattern_problem(value.value) if _is_text(value) else None  # type: ignore[attr-defined]
            if problem is not None:
                return f"the pattern of `.{node.func.attr}()` {problem}"
    return None


def _has_column(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) for part in ast.walk(node))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _may_be_text(node: ast.AST, texts: Collection[str]) -> bool:
    """Return whether a node may evaluate to a text or a list, by the columns in it."""
    if isinstance(node, ast.Compare | ast.BoolOp):
        return False
    if isinstance(node, ast.Name):
        return node.id in texts
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        number = node.func.attr in _OTHERWISE or node.func.attr.startswith("is")
        return not number and any(_may_be_text(part, texts) for part in (node.func.value, *node.args))
    return _is_text(node) or any(_may_be_text(part, texts) for part in ast.iter_child_nodes(node))


def _replacement(node: ast.AST) -> int:
    """Return the length of the replacement in `.str.replace(pattern, text)`; 0 for any other node."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "replace":
        return 0
    put_in = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "repl")]
    return sum(len(part.value) for part in put_in if isinstance(part, ast.Constant) and isinstance(part.value, str))


def _pattern_problem(pattern: str) -> str | None:
    """Return why matching a pattern may take very long: nested or very many repetitions; None if it does not."""
    plain = _CLASSES.sub("x", pattern)
    choosing = len(_CHOICE.findall(plain.replace("(?", "(")))
    waiting: list[list[bool]] = []  # of each open group: whether it repeats, whether it chooses
    for place, character in enumerate(plain):
        if character == "(":
            waiting.append([False, False])
        elif character in "*+{|" and waiting:
            waiting[-1][character == "|"] = True
        elif character == ")" and waiting:
            repeats, chooses = waiting.pop()
            again = plain[place + 1 : place + 2] in ("*", "+", "{")
            choosing += chooses
            if (repeats or chooses) and again:
                return "repeats a group that repeats or chooses; write it without"
            if waiting:
                waiting[-1][0] = waiting[-1][0] or repeats or chooses or again
    if choosing > MAX_CHOICES:
        return f"repeats or chooses more than {MAX_CHOICES} times; write a shorter one, or several conditions"
    return None
