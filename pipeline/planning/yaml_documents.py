"""Reading YAML within limits, so that a small text cannot become a large value or take a long time.

The events of a text are checked before any value is built. Refused are: more bytes, depth, values (an alias counts as
much as its anchor), keys of one mapping or characters of one value than the limits below; tags; a value that contains
itself; a duplicate key; numbers that are not finite, or that YAML 1.1 reads differently than they look (`010`, `1:30`).
"""

import math
from dataclasses import dataclass
from typing import Any

import fsspec
import yaml

from pipeline.errors import RecipeError
from pipeline.messages import one_line, short_repr

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 30_000
MAX_KEYS = 1_000
"""Most keys of one mapping."""
MAX_CHARACTERS = 65_536
"""Most characters of one value."""
MAX_DIRECTIVES = 16
"""Most directives; the parser compares each with all before it."""
MAX_NUMBER = 2**64

_TAGS = {None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq"))}
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is seven times as fast, and not everywhere


def read_document(path: str, what: str) -> Any:
    """Return the value in a YAML file.

    Args:
        path: local or a URI.
        what: `recipe`, `config`: names it in messages.

    Raises:
        RecipeError: it cannot be read, or is not YAML within the limits; one line.
    """
    try:
        with fsspec.open(path, "rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{what} {path}: there is no such file") from None
    except (OSError, ValueError, ImportError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise RecipeError(f"{what} {path}: cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{what} {path}: it has more than {MAX_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError(f"{what} {path}: cannot be read: it is not UTF-8 text") from None
    return parse_document(text, f"{what} {path}")


def parse_document(text: str, where: str, max_keys: int = MAX_KEYS) -> Any:
    """Return the value of a YAML text.

    Args:
        max_keys: of one mapping.

    Raises:
        RecipeError: it is not YAML within the limits; one line that begins with `where`.
    """
    try:
        _check(text, where, max_keys)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"{where}: not YAML: {one_line(error)}") from None


@dataclass
class _Open:
    """A mapping or list that is being read. `values`: number of values in it so far, with itself; `depth`: levels."""

    anchor: str | None
    mapping: bool
    entries: int = 0
    values: int = 1
    depth: int = 1


def _check(text: str, where: str, max_keys: int) -> None:
    """Raise RecipeError at the first limit that the text exceeds."""
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{where}: it has more than {MAX_BYTES:,} characters")
    if "%" in text and sum(line.startswith("%") for line in text.splitlines()) > MAX_DIRECTIVES:
        raise RecipeError(f"{where}: more than {MAX_DIRECTIVES} directives (lines that begin with %)")
    known: dict[str, tuple[int, int]] = {}  # values and depth of what each anchor stands for
    opened: list[_Open] = [_Open(None, False)]

    def fail(event: yaml.Event, text: str) -> RecipeError:
        line = event.start_mark.line + 1 if event.start_mark else 0
        return RecipeError(f"{where}: line {line}: {text}")

    def put(event: yaml.Event, values: int, depth: int) -> None:
        parent = opened[-1]
        parent.entries += 1
        parent.values += values
        parent.depth = max(parent.depth, depth + 1)
        if sum(each.values for each in opened) > MAX_VALUES:
            raise fail(event, f"more than {MAX_VALUES:,} values, aliases counted as what they stand for")
        if len(opened) - 1 + depth > MAX_DEPTH:
            raise fail(event, f"more than {MAX_DEPTH} levels")
        if parent.mapping and parent.entries > 2 * max_keys:
            raise fail(event, f"more than {max_keys:,} keys at one level")

    for event in yaml.parse(text, Loader=_Base):
        tag = getattr(event, "tag", None)
        if tag not in _TAGS:
            raise fail(event, f"the tag {short_repr(tag)} is not read; write the value plainly")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in known:
                raise fail(event, f"the alias {short_repr(event.anchor)} stands for nothing, or for what holds it")
            put(event, *known[event.anchor])
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MAX_CHARACTERS:
                raise fail(event, f"a value of more than {MAX_CHARACTERS:,} characters")
            put(event, 1, 0)
            if event.anchor:
                known[event.anchor] = (1, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            known.pop(event.anchor or "", None)
            opened.append(_Open(event.anchor, isinstance(event, yaml.MappingStartEvent)))
            if len(opened) - 1 > MAX_DEPTH:
                raise fail(event, f"more than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            done = opened.pop()
            if done.anchor:
                known[done.anchor] = (done.values, done.depth)
            put(event, done.values, done.depth)


class _Loader(_Base):  # type: ignore[misc]  # one of two bases
    """A safe YAML loader that refuses duplicate keys and numbers that are read differently than they look."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge `<<` into a mapping; its own keys may override merged ones, but may not occur twice."""
        if not getattr(node, "looked_through", False):  # an anchored one is flattened wherever it is merged
            node.looked_through = True  # type: ignore[attr-defined]
            seen: set[tuple[str, str]] = set()
            for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(None, None, f"{short_repr(key.value)} is there twice", key.start_mark)
                seen.add((key.tag, key.value))
        super().flatten_mapping(node)

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """Return an integer; refuse octal and base-60 notation, which look like decimal, and more than 64 bits."""
        text = node.value.lstrip("+-")
        if ":" in text or (text[:1] == "0" and text.strip("0_") and text[1:2] not in ("x", "b")):
            shown = short_repr(node.value)
            problem = f"{shown} is another number in YAML than it looks; write it plainly, or in quotes"
            raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
        value = int(self.construct_yaml_int(node)) if len(text) <= 80 else MAX_NUMBER
        if abs(value) >= MAX_NUMBER:
            raise yaml.MarkedYAMLError(None, None, f"{short_repr(node.value)} is too large a number", node.start_mark)
        return value

    def finite_number(self, node: yaml.ScalarNode) -> float:
        """Return a float; refuse infinity and NaN."""
        value = float(self.construct_yaml_float(node)) if ":" not in node.value else math.nan
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(None, None, f"{short_repr(node.value)} is no finite number", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.finite_number)
