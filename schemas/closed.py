"""The base model of recipes and parameters: unknown keys are errors, and booleans are not numbers."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Closed(BaseModel):
    """A frozen model in which an unknown key is an error, and YAML's `yes`, `on` and `true` are not taken for 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    renamed: ClassVar[Mapping[str, str]] = {}
    """Keys by the names they had before, for the error that names the new one."""

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse booleans where a number is needed; Pydantic would take true for 1."""
        values = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(one, bool) for one in values):
            types = _types_in(cls.model_fields[str(info.field_name)].annotation)
            if types & {int, float} and not types & {bool, str, Any, Literal}:
                raise PydanticCustomError("number", "needs a number; yes, no, on, off, true and false are none")
        return value


def _types_in(annotation: Any) -> set[Any]:
    """Return the types in an annotation: int and None of `int | None`, Literal of a literal."""
    if get_origin(annotation) is Literal:
        return {Literal}
    inside = get_args(annotation)[: 1 if get_origin(annotation) is Annotated else None]
    return set().union(*(_types_in(one) for one in inside)) if inside else {annotation}
