"""Reading a recipe, from a file or from Python, with overrides, into a closed Recipe."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RecipeError
from pipeline.messages import short_repr
from pipeline.model_files.references import ASSETS
from pipeline.planning.yaml_documents import MAX_DEPTH, parse_document, read_document
from pipeline.shards.files import uris
from pipeline.validation import nearest, parse
from schemas.recipe import Recipe


@dataclass(frozen=True)
class Override:
    """One value of a recipe that is changed: `path` is its keys joined by dots, `source` what set it, for messages.

    An index or a branch's name picks from a list; `- {flip: {...}}` goes by its only key.
    """

    path: str
    value: Any
    source: str

    @classmethod
    def parse(cls, text: str) -> "Override":
        """Return the override `a.b=value` of the command line; the value is YAML. Raises RecipeError."""
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise RecipeError(f"--set {short_repr(text)}: write it as a.b=value")
        return cls(path, parse_document(value, f"--set {short_repr(path)}"), f"--set {short_repr(text)}")


def load_recipe(
    path: str, overrides: Sequence[str] = (), input_uri: str | None = None, output_uri: str | None = None
) -> tuple[Recipe, str]:
    """Return the recipe and the folder its relative paths are relative to, as the command line names them.

    Args:
        path: a YAML file, local or a URI.
        overrides: `a.b=value` each; the value is YAML; an index or a branch's name picks from a list.
        input_uri, output_uri: replace `input.uri`, `output.uri`; relative to the working directory.

    Raises:
        RecipeError: the file, a key or a value is wrong; one line.
    """
    data = read_recipe(path)
    for key, uri in (("input", input_uri), ("output", output_uri)):
        if uri is not None and not uri.strip():  # an unset variable: the working directory is not what was meant
            raise RecipeError(f"--{key} is empty; name a folder, or leave it out")
    return complete(data, [Override.parse(text) for text in overrides], input_uri, output_uri), base_of(path)


def read_recipe(path: str) -> dict[str, Any]:
    """Return the keys and values of a recipe file, not checked yet. Raises RecipeError where it has none."""
    data = read_document(path, "recipe")
    if data is None:
        raise RecipeError(f"recipe {path}: it is empty")
    if not isinstance(data, dict):
        raise RecipeError(f"recipe {path}: expected keys and values, found {type(data).__name__}")
    return data


def as_data(recipe: Mapping[str, Any] | Recipe) -> dict[str, Any]:
    """Return a recipe made in Python as `read_recipe` returns one of a file: a copy. Raises RecipeError as `plain`."""
    if isinstance(recipe, Mapping):
        return dict(plain(recipe))
    data: dict[str, Any] = recipe.model_dump()
    if recipe.input.columns.label is None:  # not yet chosen; in a file, null is written out for `none`
        del data["input"]["columns"]["label"]
    return dict(plain(data))


def plain(value: Any, levels: int = MAX_DEPTH) -> Any:
    """Return a value of Python as YAML would have it: a copy of dicts and lists, and text for paths.

    Raises:
        RecipeError: more than `levels` levels, as in a dict that holds itself.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if not levels:
        raise RecipeError(f"recipe: more than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {key: plain(each, levels - 1) for key, each in value.items()}
    return [plain(each, levels - 1) for each in value]


def complete(
    data: dict[str, Any],
    overrides: Sequence[Override] = (),
    input_uri: str | Sequence[str] | None = None,
    output_uri: str | None = None,
) -> Recipe:
    """Return the recipe that `data` is after some changes; `data` itself is changed, too.

    Args:
        input_uri, output_uri: replace `input.uri`, `output.uri`; relative to the working directory.

    Raises:
        RecipeError: a key or a value is wrong; one line.
    """
    for override in overrides:
        _override(data, override)
    _no_label(data)
    for key, given in (("input", input_uri), ("output", output_uri)):
        section = None if given is None else data.setdefault(key, {})
        if given is not None and isinstance(section, dict):
            here = str(Path.cwd())
            section["uri"] = absolute(given, here) if isinstance(given, str) else [absolute(uri, here) for uri in given]
    return parse(Recipe, data, "recipe")


def base_of(path: str) -> str:
    """Return the folder of a recipe file, which relative paths in it are relative to."""
    return path.rsplit("/", 1)[0] if "://" in path else str(Path(path).resolve().parent)


def absolute(uri: str, base: str) -> str:
    """Return `uri` as an absolute path or a URI; `builtin:` names an embedded folder of shards."""
    if uri.startswith("builtin:"):
        return str(ASSETS / uri.removeprefix("builtin:"))
    return uris.absolute(uri, base)


def _no_label(data: dict[str, Any]) -> None:
    """Read a written-out `columns: {label: null}` as `none`; in a manifest, null means: found automatically."""
    section = data.get("input")
    if not isinstance(section, dict) or not isinstance(section.get("columns"), dict):
        return
    columns = section["columns"]
    if "label" in columns and columns["label"] is None:
        section["columns"] = {**columns, "label": "none"}


def _override(data: dict[str, Any], override: Override) -> None:
    keys = override.path.split(".")
    if len(keys) > MAX_DEPTH:
        raise RecipeError(f"{override.source}: more than {MAX_DEPTH} levels")
    at: Any = data
    for key in keys[:-1]:
        at = _step_into(at, key, override.source)
    last = keys[-1]
    if isinstance(at, list):
        at[_index(at, last, override.source)] = override.value
    elif isinstance(at, dict):
        at[last] = override.value
    else:
        raise RecipeError(f"{override.source}: {keys[-2]!r} is a value, it has no keys")


def _step_into(at: Any, key: str, source: str) -> Any:
    if isinstance(at, list):
        item = at[_index(at, key, source)]
        return item[key] if isinstance(item, dict) and key in item else item  # `- {flip: {...}}` goes by its only key
    if isinstance(at, dict):
        return at.setdefault(key, {})
    raise RecipeError(f"{source}: nothing below {key!r} can be set")


def _index(items: list[Any], key: str, source: str) -> int:
    if key.isdigit() and int(key) < len(items):
        return int(key)
    named = [
        index for index, item in enumerate(items) if isinstance(item, dict) and (item.get("name") == key or key in item)
    ]
    if len(named) != 1:
        names = [str(item.get("name")) for item in items if isinstance(item, dict) and "name" in item]
        raise RecipeError(f"{source}: no entry {key!r}{nearest(key, names) if names else ''}")
    return named[0]
