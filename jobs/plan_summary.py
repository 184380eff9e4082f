"""A plan as JSON and as text for the terminal."""

import dataclasses

from jobs import input_summary
from pipeline.monitoring.progress import duration
from pipeline.plan import Plan
from pipeline.planning.estimate import BranchEstimate


def as_json(plan: Plan, branches: list[BranchEstimate]) -> dict[str, object]:
    """Return the plan for `plan --json`."""
    return {
        "plan_digest": plan.digest,
        "output": plan.output,
        "shards": len(plan.shards),
        "rows_in": rows_in(plan),
        "input": input_summary.as_json(plan),
        "units": len(plan.units),
        "images_out": sum(branch.images for branch in branches),
        "estimated_actor_seconds": round(sum(branch.seconds for branch in branches), 1),
        "estimated_bytes": sum(branch.bytes for branch in branches),
        "notes": list(plan.notes),
        "branches": [dataclasses.asdict(branch) for branch in branches],
    }


def rows_in(plan: Plan) -> int:
    """Return the number of source rows that the plan takes."""
    rows = sum(shard.rows for shard in plan.shards)
    return rows if plan.limit is None else min(rows, plan.limit)


def as_text(plan: Plan, branches: list[BranchEstimate]) -> str:
    """Return the plan as lines for a person."""
    lines = [
        f"{len(plan.shards)} {'shard' if len(plan.shards) == 1 else 'shards'}, {rows_in(plan)} rows -> {plan.output}",
        *input_summary.as_lines(plan),
        f"plan {plan.digest[:12]}: {len(plan.units)} units",
        "",
        f"{'branch':<20}{'units':>8}{'images':>12}{'actors':>10}{'gpu each':>10}{'actor time':>14}{'bytes':>12}",
    ]
    for branch in branches:
        actors = "all cores" if branch.actors is None and not branch.gpus else branch.actors or "all GPUs"
        lines.append(
            f"{branch.branch:<20}{branch.units:>8}{branch.images:>12}{actors:>10}{branch.gpus:>10g}"
            f"{duration(branch.seconds):>14}{size(branch.bytes):>12}"
        )
    lines += ["", *(f"note: {note}" for note in plan.notes)] if plan.notes else []
    lines += ["", "Images are before `where`; time and bytes are estimates, good to a factor of about three."]
    return "\n".join(lines)


def size(count: float) -> str:
    """Return bytes as `12 kB`, `3.4 MB`, ..."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
