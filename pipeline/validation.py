"""Validation of recipes and parameters: returns a model, or raises an error of one line that names the field."""

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from pipeline.errors import RecipeError
from pipeline.messages import short_repr

Model = TypeVar("Model", bound=BaseModel)


MAX_COMPARED = 200
"""Most characters of a name that is compared with known ones; the time grows with their square."""
MAX_KNOWN = 1_000


def _ordered_shares(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] <= value[1] <= 1:  # also refuses NaN
        raise PydanticCustomError("share_range", "needs two shares within [0, 1], the smaller one first")
    return value


ShareRange = Annotated[tuple[float, float], AfterValidator(_ordered_shares)]
"""An interval within [0, 1], the smaller number first, from which an operator draws uniformly."""


def nearest(name: str, known: list[str]) -> str:
    """Return ` (did you mean 'x'?)`, or the list of known names if none is similar."""
    match = difflib.get_close_matches(name[:MAX_COMPARED], known[:MAX_KNOWN], n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else f" (known: {', '.join(sorted(known))})"


def parse(model: type[Model], data: Any, where: str) -> Model:
    """Return `model` made from `data`.

    Args:
        where: what `data` is, for the message: `recipe`, `branches[0].operators[0].adain_style`.

    Raises:
        RecipeError: one line that names the field, the value and, for an unknown key, the nearest known one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # An unknown key comes first: the field it was meant for is then missing as well.
        first = min(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
        raise RecipeError(_line(model, first, where)) from None


def _line(model: type[BaseModel], error: ErrorDetails, where: str) -> str:
    unknown = error["type"] == "extra_forbidden"
    parents = error["loc"][:-1] if unknown else error["loc"]
    location = [part for part in parents if not _is_union_tag(part)]
    location += error["loc"][-1:] if unknown else ()  # an unknown key is as it was written
    path = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    if unknown:
        if (now := renamed_key(model, location)) is not None:
            return f"{path}: unknown key; {location[-1]!r} is now called {now!r}"
        return f"{path}: unknown key{nearest(str(location[-1]), _fields_at(model, location[:-1]))}"
    if error["type"] == "missing":
        return f"{path}: missing; it must be given"
    return f"{path} = {short_repr(error['input'])}: {error['msg']}"


def _is_union_tag(part: int | str) -> bool:
    """Pydantic names the tried member of a union in the location: `Watermark`, `literal['none']`, `constrained-int`."""
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in ("int", "constrained-int"))


def renamed_key(model: type[BaseModel], location: Sequence[int | str]) -> str | None:
    """Return what the key at the end of a location within `model` is called now; None where it is no earlier name.

    Read from `renamed` of the model that the key stands in, and of its bases.
    """
    for base in _model_at(model, location[:-1]).__mro__:
        if (now := base.__dict__.get("renamed", {}).get(location[-1])) is not None:
            return str(now)
    return None


class EarlierLayoutError(ValueError):
    """A record has a field under an earlier name; the text is that name, and the present one."""


def read_record(model: type[Model], data: bytes) -> Model:
    """Return the record that JSON holds. Raises EarlierLayoutError for an earlier name of a field, else ValueError."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            now = renamed_key(model, one["loc"]) if one["type"] == "extra_forbidden" else None
            if now is not None:
                raise EarlierLayoutError(f"{'.'.join(map(str, one['loc']))}, now called {now}") from None
        raise


def _fields_at(model: type[BaseModel], location: list[int | str]) -> list[str]:
    return list(_model_at(model, location).model_fields)


def _model_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    found: Any = model
    for part in location:
        if part not in found.model_fields:  # an index, or a key of a mapping
            continue
        found = _model_in(found.model_fields[part].annotation) or found
    return found  # type: ignore[no-any-return]


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
