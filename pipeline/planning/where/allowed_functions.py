"""What a `where` may hold: syntax, functions and methods that look at one row at a time."""

import ast

ELEMENTWISE = (
    ast.Expression, ast.BoolOp, ast.boolop, ast.UnaryOp, ast.unaryop, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div,
    ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr, ast.Compare, ast.cmpop, ast.Name, ast.Load, ast.Constant,
    ast.Call, ast.Attribute, ast.keyword, ast.List, ast.Tuple,
)  # fmt: skip
FUNCTIONS = {"abs", "floor", "ceil", "sqrt"}
METHODS = {"isin", "isna", "notna", "isnull", "notnull", "between", "abs", "fillna"}
TEXT_METHODS = {
    "startswith", "endswith", "contains", "match", "fullmatch", "lower", "upper", "casefold", "strip", "lstrip",
    "rstrip", "removeprefix", "removesuffix", "replace", "slice", "len", "count", "find", "isdigit", "isalpha",
    "isalnum", "isnumeric", "isdecimal", "isspace", "islower", "isupper", "istitle",
}  # fmt: skip
TIME_FIELDS = {
    "year", "quarter", "month", "day", "hour", "minute", "second", "microsecond", "dayofweek", "weekday", "dayofyear",
}  # fmt: skip
