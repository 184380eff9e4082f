"""Prompts filled from templates, class names and columns. Imports no torch: operators draw prompts in `draw`.

A template is text with fields: `{label}` is the class name, `{column:NAME}` the value of an input column, and `{NAME}`
short for it. A field alone, `{caption}`, is a prompt column.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.diffusion.strength import weighted_choice
from pipeline.errors import InputError, RowError

NO_PROMPT = "no_prompt"
LABEL = "label"
COLUMN = "column:"
_FIELD = re.compile(r"\{([^{}]*)\}")

Templates = Sequence[tuple[str, float]]
"""Templates with their weights."""


def check_template(template: str) -> None:
    """Raise ValueError, with the remedy, where a template cannot be read."""
    for name in _FIELD.findall(template):
        if not name.removeprefix(COLUMN).strip():
            raise ValueError(f"{template!r} has a field without a name; write {{label}} or {{column:NAME}}")
    if any(brace in _FIELD.sub("", template) for brace in "{}"):
        raise ValueError(f"{template!r} has a brace that stands alone; write fields as {{label}} or {{column:NAME}}")


def columns_of(templates: Templates) -> tuple[str, ...]:
    """The input columns that templates name, in order."""
    names = [name for template, _ in templates for name in _FIELD.findall(template) if name != LABEL]
    return tuple(dict.fromkeys(name.removeprefix(COLUMN) for name in names))


def text_sha256(text: str | None) -> str | None:
    """Hex sha256 of a prompt's UTF-8 bytes; None of none."""
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class PromptTemplates:
    """Weighted templates of prompts (`wanted`) and negative prompts (`unwanted`); one of each is drawn for an image."""

    wanted: Templates
    unwanted: Templates = ()

    def draw(
        self,
        generators: Sequence[np.random.Generator],
        names: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
    ) -> tuple[list[str | None], list[str | None]]:
        """The prompts and the negative prompts of N samples; None where a column's value is null, or leaves no prompt.

        Args:
            generators: one a sample; a single template takes nothing from it.
            names: the class name of each, empty where it has none: the name is then left out.
            columns: the input columns, N values each.

        Raises:
            InputError: a template names a column that is not there.
        """
        self._check(columns)
        wanted, unwanted = [], []
        for row, (generator, name) in enumerate(zip(generators, names, strict=True)):
            values = {column: cells[row] for column, cells in columns.items()}
            template = weighted_choice(generator, self.wanted)
            text = _filled(template, name, values)
            wanted.append(text if text or not template.strip() else None)  # an empty caption is no prompt either
            unwanted.append(_filled(weighted_choice(generator, self.unwanted), name, values) if self.unwanted else "")
        return wanted, unwanted

    def _check(self, columns: Mapping[str, Sequence[Any]]) -> None:
        for name in columns_of([*self.wanted, *self.unwanted]):
            if name not in columns:
                known = ", ".join(sorted(columns)) or "none: this branch has no source rows"
                raise InputError(f"prompt: there is no column {name!r} to fill {{{name}}} with (columns: {known})")


def missing_prompts(texts: Sequence[str | None]) -> dict[int, RowError]:
    """A RowError `no_prompt` for every sample whose columns are null, or leave its prompt empty."""
    return {
        row: RowError(NO_PROMPT, "a column of the prompt is null or empty in this row")
        for row, text in enumerate(texts)
        if text is None
    }


def _filled(template: str, name: str, values: Mapping[str, Any]) -> str | None:
    """The template with its fields filled in one pass, white space made single; None where a value is null."""
    fields = {
        field: name if field == LABEL else values[field.removeprefix(COLUMN)] for field in _FIELD.findall(template)
    }
    if any(value is None for value in fields.values()):
        return None
    return " ".join(_FIELD.sub(lambda found: str(fields[found[1]]), template).split())
