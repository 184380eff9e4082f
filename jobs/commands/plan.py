"""`plan`: what a run would do. Reads footers, light columns and the first rows; imports no torch and starts no Ray."""

import argparse
import dataclasses
import json

from jobs.commands import input_summary
from jobs.terminal import show
from pipeline.monitoring.progress import duration
from pipeline.plan import Plan
from pipeline.planning.estimate import BranchEstimate, estimate
from pipeline.planning.planner import plan_recipe
from pipeline.planning.recipe_file import load_recipe
from pipeline.publishing.ownership import check_place


def read_plan(options: argparse.Namespace, key: bytes | None = None) -> Plan:
    """Return the plan of the recipe that the command line names. Raises JobError."""
    recipe, base = load_recipe(options.recipe, options.set, options.input, options.output)
    return plan_recipe(recipe, base, options.limit, key)


def show_plan(options: argparse.Namespace) -> int:
    """`palimpsest plan RECIPE`."""
    plan = read_plan(options)
    check_place(plan)
    branches = estimate(plan)
    show(json.dumps(as_json(plan, branches), indent=1) if options.json else as_text(plan, branches))
    return 0


def as_json(plan: Plan, branches: list[BranchEstimate]) -> dict[str, object]:
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
    rows = sum(shard.rows for shard in plan.shards)
    return rows if plan.limit is None else min(rows, plan.limit)


def as_text(plan: Plan, branches: list[BranchEstimate]) -> str:
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
