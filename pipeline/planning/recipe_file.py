"""Reading a recipe file, with `--set` overrides, into a closed Recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import RecipeError
from pipeline.messages import shortened
from pipeline.model_files.references import ASSETS
from pipeline.planning.yaml_documents import MAX_DEPTH, parse_document, read_document
from pipeline.shards.files import uris
from pipeline.validation import nearest, parse
from schemas.recipe import Recipe


def load_recipe(
    path: str, overrides: Sequence[str] = (), input_uri: str | None = None, output_uri: str | None = None
) -> tuple[Recipe, str]:
    """Return the recipe and the folder its relative paths are relative to.

    Args:
        path: a YAML file, local or a URI.
        overrides: `a.b=value` each; the value is YAML; an index or a branch's name picks from a list.
        input_uri, output_uri: replace `input.uri`, `output.uri`; relative to the working directory.

    Raises:
        RecipeError: the file, a key or a value is wrong; one line.
    """
    data = read_document(path, "recipe")
    if data is None:
        raise RecipeError(f"recipe {path}: it is empty")
    if not isinstance(data, dict):
        raise RecipeError(f"recipe {path}: expected keys and values, found {type(data).__name__}")
    for override in overrides:
        _override(data, override)
    _no_label(data)
    for key, uri in (("input", input_uri), ("output", output_uri)):
        if uri is not None and not uri.strip():  # an unset variable: the working directory is not what was meant
            raise RecipeError(f"--{key} is empty; name a folder, or leave it out")
        if uri is not None:
            section = data.setdefault(key, {})
            if isinstance(section, dict):
                section["uri"] = absolute(uri, str(Path.cwd()))
    base = path.rsplit("/", 1)[0] if "://" in path else str(Path(path).resolve().parent)
    return parse(Recipe, data, "recipe"), base


def absolute(uri: str, base: str) -> str:
    """Return `uri` as an absolute path or a URI; `builtin:` names an embedded folder of shards."""
    if uri.startswith("builtin:"):
        return str(ASSETS / uri.removeprefix("builtin:"))
    return uris.absolute(uri, base)


def _no_label(data: dict[str, Any]) -> None:
    """Take a `columns: {label: null}` that is written out for `none`; a manifest's null means: found by itself."""
    section = data.get("input")
    if not isinstance(section, dict) or not isinstance(section.get("columns"), dict):
        return
    columns = section["columns"]
    if "label" in columns and columns["label"] is None:
        section["columns"] = {**columns, "label": "none"}


def _override(data: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise RecipeError(f"--set {shortened(text)}: write it as a.b=value")
    keys = path.split(".")
    if len(keys) > MAX_DEPTH:
        raise RecipeError(f"--set {shortened(path)}: more than {MAX_DEPTH} levels")
    at: Any = data
    for key in keys[:-1]:
        at = _step_into(at, key, text)
    last = keys[-1]
    parsed = parse_document(value, f"--set {shortened(path)}")
    if isinstance(at, list):
        at[_index(at, last, text)] = parsed
    elif isinstance(at, dict):
        at[last] = parsed
    else:
        raise RecipeError(f"--set {shortened(text)}: {keys[-2]!r} is a value, it has no keys")


def _step_into(at: Any, key: str, text: str) -> Any:
    if isinstance(at, list):
        item = at[_index(at, key, text)]
        return item[key] if isinstance(item, dict) and key in item else item  # `- {flip: {...}}` goes by its only key
    if isinstance(at, dict):
        return at.setdefault(key, {})
    raise RecipeError(f"--set {shortened(text)}: nothing below {key!r} can be set")


def _index(items: list[Any], key: str, text: str) -> int:
    if key.isdigit() and int(key) < len(items):
        return int(key)
    named = [
        index for index, item in enumerate(items) if isinstance(item, dict) and (item.get("name") == key or key in item)
    ]
    if len(named) != 1:
        names = [str(item.get("name")) for item in items if isinstance(item, dict) and "name" in item]
        raise RecipeError(f"--set {shortened(text)}: no entry {key!r}{nearest(key, names) if names else ''}")
    return named[0]
