"""Summary of the input for `plan`: its columns, classes and splits, and the files that were skipped."""

from typing import Any, Final

from pipeline.messages import listed, one_line
from pipeline.plan import Plan
from pipeline.shards.columns.class_table import NO_CLASS

_MAX_CLASSES: Final = 1_000
_WORDS: Final = {"bytes": "bytes", "struct": "bytes and paths", "path": "paths", "text": "base64 text"}


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the summary for `--json`; of the class names the first 1,000."""
    layout = plan.layout
    found: dict[str, Any] = {
        "columns": None,
        "classes": list(plan.classes[:_MAX_CLASSES]),
        "class_count": len(plan.classes),
        "class_source": layout.class_source if layout else None,
        "splits": [{"split": split, "rows": rows} for split, rows in plan.splits.items()],
        "skipped": [
            {"reason": reason, "count": count, "first": plan.skipped.names(reason)}
            for reason, count in plan.skipped.counts.items()
        ],
    }
    if layout is not None:
        found["columns"] = {
            "image": layout.image,
            "image_kind": layout.image_kind,
            "label": layout.label,
            "id": layout.id,
            "all": layout.schema.names,
        }
    return found


def as_lines(plan: Plan) -> list[str]:
    """Return the summary as lines of text."""
    lines = []
    layout = plan.layout
    if layout is not None:
        label = "none" if layout.label is None else f"{layout.label} ({layout.schema.field(layout.label).type})"
        image = f"{layout.image} ({_WORDS[layout.image_kind]})"
        lines.append(_line("columns", f"image: {image}, label: {label}, id: {layout.id or 'none'}"))
    if plan.classes:
        names = ", ".join(plan.classes[:12]) + (", ..." if len(plan.classes) > 12 else "")
        origin = layout.class_source if layout else None
        lines.append(_line("classes", f"{len(plan.classes)} by {origin or 'the recipe'}: {names}"))
    if layout is not None and layout.label is not None:
        counted = plan.labels.rows
        none = [label for label in counted if layout.table.index(label) == NO_CLASS]
        if none:
            rows = f"{sum(counted[label] for label in none):,} of {sum(counted.values()):,} rows"
            shown = listed(["null" if label is None else repr(label) for label in none])
            lines.append(_line("no class", f"{rows}: their {layout.label} is {shown}, and stays so"))
    if any(split is not None for split in plan.splits):
        parts = [f"{split or 'in none'} {rows:,} rows" for split, rows in plan.splits.items()]
        chosen = plan.recipe.input.split
        lines.append(_line("splits", ", ".join(parts) + (f"; taken: {chosen}" if chosen else "")))
    for reason, count in plan.skipped.counts.items():
        names = plan.skipped.names(reason)
        more = ", ..." if count > len(names) else ""
        lines.append(_line("skipped", f"{count} {reason}: {', '.join(names)}{more}"))
    return lines


def _line(title: str, text: str) -> str:
    return f"{title:<12} {one_line(text, 300)}"
