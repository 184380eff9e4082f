"""How large a `where` may be: nothing that its evaluation would take for ever over, or all memory."""

import ast
import re

MOST_CHARACTERS = 65_536
MOST_BRACKETS = 32
MOST_PARTS = 500
"""Names, comparisons, calls and so on; the constants of lists are counted apart."""
MOST_DEPTH = 32
MOST_LISTED = 10_000
MOST_NUMBER = 2**64
MOST_EXPONENT = 16

_QUOTED = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`")
_REGEX_METHODS = ("contains", "match", "fullmatch", "replace", "count")


def text_fault(text: str) -> str | None:
    """Return why an expression is not even read; None where it is."""
    if len(text) > MOST_CHARACTERS:
        return f"it has {len(text):,} characters, and {MOST_CHARACTERS:,} are the most"
    depth = 0
    for character in _QUOTED.sub("", text):
        depth += (character in "([{") - (character in ")]}")
        if depth > MOST_BRACKETS:
            return f"its brackets are nested more than {MOST_BRACKETS} deep"
    return None


def tree_fault(tree: ast.AST) -> str | None:
    """Return why an expression is not evaluated; None where it is."""
    parts = listed = 0
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MOST_DEPTH:
            return f"it is nested more than {MOST_DEPTH} deep"
        here: list[ast.AST] = [node]
        if isinstance(node, ast.List | ast.Tuple):  # of constants, as is checked elsewhere
            listed += len(node.elts)
            here = [value.operand if isinstance(value, ast.UnaryOp) else value for value in node.elts]
        else:
            parts += not isinstance(node, ast.expr_context | ast.operator | ast.cmpop | ast.boolop | ast.unaryop)
            waiting.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
        if parts > MOST_PARTS or listed > MOST_LISTED:
            return f"it has more than {MOST_PARTS} parts, or lists of more than {MOST_LISTED:,} values"
        fault = next((fault for fault in map(_node_fault, here) if fault is not None), None)
        if fault is not None:
            return fault
    return None


def _node_fault(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, int | float) and not abs(node.value) < MOST_NUMBER:
            return "a number in it is larger than 64 bits"
        if isinstance(node.value, complex | bytes) or node.value is ...:
            return f"{node.value!r} is not for conditions of one row"
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Pow):
            exponent = node.right.value if isinstance(node.right, ast.Constant) else None
            if not isinstance(exponent, int | float) or abs(exponent) > MOST_EXPONENT or not _has_column(node.left):
                return f"`**` takes a column, and a number of {MOST_EXPONENT} at most"
        elif not isinstance(node.op, ast.Add) and any(_is_text(part) for part in (node.left, node.right)):
            return "a text is compared or added to another, and nothing else"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _REGEX_METHODS:
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        if any(_is_text(value) and _repeats_of_repeats(value.value) for value in values):  # type: ignore[attr-defined]
            return f"the pattern of `.{node.func.attr}()` repeats a group that repeats or chooses; write it without"
    return None


def _has_column(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) for part in ast.walk(node))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _repeats_of_repeats(pattern: str) -> bool:
    """Return whether a group that itself repeats or chooses is repeated: such a pattern may take for ever."""
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", pattern)  # escapes and character classes
    waiting: list[bool] = []
    for place, character in enumerate(plain):
        if character == "(":
            waiting.append(False)
        elif character in "*+{|" and waiting:
            waiting[-1] = True
        elif character == ")" and waiting:
            inner = waiting.pop()
            if inner and plain[place + 1 : place + 2] in ("*", "+", "{"):
                return True
            if waiting:
                waiting[-1] = waiting[-1] or inner or plain[place + 1 : place + 2] in ("*", "+", "{")
    return False
