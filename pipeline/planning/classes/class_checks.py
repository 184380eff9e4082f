"""Checks that the classes of the input fit the prompts, models and gates that use them.

A prompt that would be blank, or a class that would be mistaken for another, is an error; a doubt is a note.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from pipeline.contracts import Part
from pipeline.errors import RecipeError
from pipeline.messages import listed
from pipeline.model_files.class_labels import matching_class
from pipeline.model_files.known_classes import KnownClasses, known_classes
from pipeline.model_files.references import FileRef
from pipeline.planning.classes.branch_labels import BranchLabels, branch_labels
from pipeline.requirements import ClassRequirements
from pipeline.shards.columns.class_metadata import CLASS_LABEL
from pipeline.shards.columns.class_table import NO_CLASS
from pipeline.shards.columns.label_values import LabelValues
from pipeline.shards.columns.layout import Layout
from pipeline.shards.files.discovery import Shard
from schemas.recipe import Branch

LABEL = "{label}"
_NAMES = "input.class_names"


class PlannedBranch(Protocol):
    """A BranchPlan."""

    @property
    def where(self) -> str | None: ...

    @property
    def parts(self) -> "Sequence[Planned]": ...


class Planned(Protocol):
    """A StepPlan or a GatePlan."""

    @property
    def models(self) -> Mapping[str, FileRef]: ...

    def make(self) -> Part: ...


def check_branches(
    branches: Sequence[Branch],
    planned: Mapping[str, PlannedBranch],
    shards: Sequence[Shard],
    layout: Layout,
    values: LabelValues,
) -> tuple[str, ...]:
    """Check the classes of every branch, found in `planned` by name; return notes.

    Raises:
        RecipeError: an operator or a gate would get no class, or a wrong one.
    """
    notes: list[str] = []
    for branch in branches:
        made = [(part.make(), part.models) for part in planned[branch.name].parts]
        if not any(part.requirements().classes for part, _ in made):
            continue
        labels = branch_labels(branch, planned[branch.name].where, layout, values, shards)
        for part, models in made:
            notes += check_classes(part, models, labels, f"branch {branch.name!r}: {part.name}")
            requirements = part.requirements().classes
            if requirements is not None and requirements.draws_class and labels.made == "count":
                break  # from here on images are of the classes that it drew
    return tuple(notes)


def names_read(parts: Sequence[Planned], layout: Layout) -> list[Any]:
    """Return the class names that unit digests hold: those of text labels, if an operator or gate reads them all."""
    if layout.table.kind != "text" or layout.class_source == CLASS_LABEL:
        return []
    requirements = [planned.make().requirements().classes for planned in parts]
    return [{"classes": list(layout.table.names)}] if any(each and each.reads_names for each in requirements) else []


def check_classes(part: Part, models: Mapping[str, FileRef], labels: BranchLabels, where: str) -> list[str]:
    """Check the classes of a branch's images for one operator or gate; return notes.

    Args:
        where: position in the recipe, for messages.

    Raises:
        RecipeError: a text would be blank where the class's name belongs, or a model would get the wrong class.
    """
    requirements = part.requirements().classes
    if requirements is None or not labels.rows:
        return []
    known = known_classes(models["model"]) if "model" in models else None
    names = labels.layout.table.names
    if len(names) < requirements.min_names:
        raise RecipeError(
            f"{where}: {part.name} reads class names: it needs {requirements.min_names} at least, and the input has "
            f"{len(names)}; say them with {_NAMES}"
        )
    for field, template in _templates(requirements, known):
        if LABEL in template:
            _check_named(labels, requirements, f"{where}.{field}", template)
    if requirements.model is None or known is None or not known.count:
        return []
    model = f"{where}.{requirements.model}: {models[requirements.model].reference}"
    return [f"{model}: {note}" for note in _matched(labels, requirements, known, model)]


def _templates(requirements: ClassRequirements, known: KnownClasses | None) -> Iterator[tuple[str, str]]:
    read = [requirements.templates]
    if known is not None:
        read.append(requirements.text_prompts if known.takes_text else requirements.guidance_prompts)
    for texts in read:
        yield from ((field, template) for field, templates in texts.items() for template in templates)


def _check_named(labels: BranchLabels, requirements: ClassRequirements, where: str, template: str) -> None:
    """Raise RecipeError if an image has no class name for a template."""
    start = f"{where} = {listed([template])!r}: {LABEL} would be blank: "
    other = f"write a text without {LABEL}"
    table, label = labels.layout.table, labels.layout.label
    if requirements.classless_by is not None:
        raise RecipeError(f"{start}{requirements.classless_by} tells of no class; leave it out, or {other}")
    if labels.made == "count":
        raise RecipeError(f"{start}a branch of `count` has no classes; use per_class, or {other}")
    if label is None:
        raise RecipeError(
            f"{start}no column of the input is the label; name it with input.columns: {{label: NAME}}, or {other}"
        )
    blank = [value for value in labels.rows if table.name(table.index(value)) is None]
    if not blank:
        return
    rows = _rows(labels, blank)
    if not table.names and any(table.index(value) != NO_CLASS for value in blank):
        values = listed(sorted(value for value in blank if value is not None))
        raise RecipeError(f"{start}column {label!r} holds numbers without names ({values}); say them with {_NAMES}")
    raise RecipeError(
        f"{start}{rows} of column {label!r} {_has(rows)} no class ({_shown(blank)}); leave them out with where: "
        f"{_remedy(labels, blank)}, or {other}"
    )


def _matched(labels: BranchLabels, requirements: ClassRequirements, known: KnownClasses, model: str) -> Iterator[str]:
    """Yield notes; raise RecipeError if the model does not know a class that it would get."""
    table = labels.layout.table
    _check_classless(labels, requirements, known, model)
    if labels.rows.get(None) and not requirements.draws_class:
        rows, label = _rows(labels, [None]), labels.layout.label
        none = f"{rows} of column {label!r} {_has(rows)} no class" if label else "no column of the input is the label"
        yield f"{none}: made without one"
    if requirements.draws_class and labels.made == "count" and table.kind == "none":
        yield f"its images get no label: column {labels.layout.carried_label!r} holds no classes"
        return
    class_indexes = sorted({table.index(value) for value in labels.rows} - {NO_CLASS})
    if table.names and known.names:
        yield from _by_name(labels, requirements, known, model, class_indexes)
        return
    beyond = [index for index in class_indexes if index >= known.count]
    if beyond:
        raise RecipeError(
            f"{model} has {known.count} classes, and column {labels.layout.label!r} holds {listed(beyond)}; say "
            f"what the numbers mean with {_NAMES}{_others(requirements, labels)}"
        )
    if (
        known.names
        and list(known.names) != [str(index) for index in range(known.count)]
        and (class_indexes or requirements.draws_class)
    ):
        pairs = [f"{index} = {known.names[index]}" for index in class_indexes or range(known.count)]
        yield (
            f"the input's classes have no names, so its numbers are taken for the model's: {listed(pairs)}; say "
            f"what they mean with {_NAMES}"
        )
    elif table.names and class_indexes:
        pairs = [f"{table.name(index)} = {index}" for index in class_indexes]
        yield f"the model has no names of classes, so they go by number: {listed(pairs)}"


def _by_name(
    labels: BranchLabels, requirements: ClassRequirements, known: KnownClasses, model: str, class_indexes: Sequence[int]
) -> Iterator[str]:
    names = labels.layout.table.names
    places = {name: matching_class(name, known.names) for name in names}
    strangers = [names[index] for index in class_indexes if places[names[index]] is None]
    if not requirements.own_class:
        usable = [name for name in names if places[name] is not None]
        strangers = [] if len(usable) >= max(1, requirements.min_names) else list(names)
    if strangers:
        raise RecipeError(
            f"{model} knows no class {listed([repr(name) for name in strangers])} of "
            f"{_source(labels)}; it knows {listed(known.names)}; {_renamed(labels)}, take another "
            f"model{_others(requirements, labels)}"
        )
    if requirements.draws_class and labels.made == "count":
        nameless = [name for place, name in enumerate(known.names) if place not in places.values()]
        if nameless:
            yield f"images of {listed(nameless)} get no label: the input has no such class"


def _check_classless(labels: BranchLabels, requirements: ClassRequirements, known: KnownClasses, model: str) -> None:
    """Raise RecipeError for rows without a class, unless they are null and the model can go without."""
    if requirements.draws_class:
        return
    table, label = labels.layout.table, labels.layout.label
    classless = [value for value in labels.rows if table.index(value) == NO_CLASS]
    if known.none is not None:
        classless = [value for value in classless if value is not None]
    if classless and label is not None:
        rows = _rows(labels, classless)
        raise RecipeError(
            f"{model} needs a class, and {rows} of column {label!r} {_has(rows)} none ({_shown(classless)}); leave "
            f"them out with where: {_remedy(labels, classless)}"
        )
    if classless:
        raise RecipeError(
            f"{model} makes nothing without a class, and no column of the input is the label; name it with "
            "input.columns: {label: NAME}, or take another model"
        )


def _rows(labels: BranchLabels, values: Iterable[Any]) -> str:
    count = sum(labels.rows[value] for value in values)
    return f"{count} of {sum(labels.rows.values())} rows"


def _has(rows: str) -> str:
    return "has" if rows.startswith("1 ") else "have"


def _shown(values: Sequence[Any]) -> str:
    return listed(["null" if value is None else repr(value) for value in values])


def _remedy(labels: BranchLabels, values: Sequence[Any]) -> str:
    """Return a `where` condition that leaves out rows whose labels are no class."""
    if all(value is None for value in values):
        return "label.notna()"
    return "label.str.strip() != ''" if labels.layout.table.kind == "text" else "label >= 0"


def _source(labels: BranchLabels) -> str:
    label = labels.layout.label
    return _NAMES if label is None else f"column {label!r} (its classes: {listed(labels.layout.table.names)})"


def _renamed(labels: BranchLabels) -> str:
    """Return advice on how to give the classes the names that a model knows."""
    table = labels.layout.table
    if table.kind != "text":
        return f"name the classes as the model does ({_NAMES})"
    if all(name.strip().isdecimal() for name in table.names):
        return f"write the labels as whole numbers, and what they mean in {_NAMES}"
    return "write the labels as the model does"


def _others(requirements: ClassRequirements, labels: BranchLabels) -> str:
    ways = ["leave these rows out with where"] if labels.made == "copies" else []
    if requirements.classless_option is not None:
        ways.append(f"write {requirements.classless_option}")
    return "".join(f", or {way}" for way in ways)
