"""The configuration of a trainer: YAML into a closed model; an unknown key is an error that names the nearest one."""

import difflib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import RecipeError
from pipeline.messages import short_repr
from pipeline.planning.yaml_documents import read_document
from pipeline.validation import renamed_key
from pipeline.working_dir import require_persistent
from schemas.closed import Closed

Config = TypeVar("Config", bound=Closed)


def read_config(path: str | Path, model: type[Config]) -> Config:
    """Parse a YAML file. Raises RecipeError, in one line, for what cannot be read, is unknown, missing or wrong."""
    content = read_document(str(path), "config")
    try:
        config = model.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"config {path}: {_first_line(error, model)}") from error
    if "out" in model.model_fields:
        require_persistent(getattr(config, "out"), "out", "in the configuration")  # noqa: B009 - not every trainer has one
    return config


def _first_line(error: ValidationError, model: type[BaseModel]) -> str:
    # An unknown key comes first: the field it was meant for is then missing as well.
    first = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{place}: {first['msg']}"
    if first["type"] != "extra_forbidden":
        return f"{place or 'top level'}: {first['msg']} (found {short_repr(first['input'])})"
    now = renamed_key(model, [part for part in first["loc"] if not isinstance(part, int)])
    if now is not None:
        return f"unknown key {place!r}; it is now called {now!r}"
    near = difflib.get_close_matches(str(first["loc"][-1]), sorted(_keys(model)), 1, 0.4)
    return f"unknown key {place!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _keys(model: type[BaseModel]) -> set[str]:
    """All keys of a model and of the models inside it."""
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= _keys(part)
    return found
