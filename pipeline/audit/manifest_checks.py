"""Manifest checks: the manifest against its recipe, and against the records of its units."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pipeline.audit.log_checks import PlanOrder
from pipeline.plan import ORIGINAL
from pipeline.registry import GATES, OPERATORS
from pipeline.shards.output.commit_log import CommitLog
from pipeline.shards.output.counts import CountSums, total
from pipeline.shards.units import plan_digest
from schemas.manifest import Manifest
from schemas.recipe import Recipe


def manifest_findings(manifest: Manifest, log: CommitLog, plan_order: PlanOrder) -> Iterator[str]:
    """Yield every contradiction between a manifest, its recipe and the records."""
    units = plan_order.units
    if not manifest.complete:
        yield f"the manifest says incomplete: {len(units)} of {manifest.units} units are there"
    elif len(units) != manifest.units:
        yield f"{manifest.units} units planned, {len(units)} records found"
    if plan_order.commits_sha256 != manifest.commits.sha256:
        yield "the commit log is not the one the manifest was written for"
    if manifest.complete:
        listed, there = ({each.path for each in some} for some in (manifest.commits.segments, log.segments))
        yield from (f"{path}: the manifest lists this segment, and it is not there" for path in sorted(listed - there))
        unlisted = "the manifest does not list this segment of the commit log; the next run merges it"
        yield from (f"{path}: {unlisted}" for path in sorted(there - listed))
    if manifest.counts != total(units.sums.values()):
        yield "the counts in the manifest are not the sum of the records"
    yield from _branches(manifest, units.sums)
    yield from _watermark(manifest)
    yield from plan_order.overlaps()
    if manifest.complete and len(units) == manifest.units:
        yield from _units(manifest, plan_order)


def _branches(manifest: Manifest, sums: Mapping[str, CountSums]) -> Iterator[str]:
    recipe = Recipe.model_validate(manifest.recipe)
    names = [chain.get("name") for chain in manifest.chains]
    asked = [ORIGINAL] * recipe.output.keep_originals + [branch.name for branch in recipe.branches]
    if sorted(map(str, names)) != sorted(asked):
        yield f"the manifest's chains are of {names}, and its recipe asks for {asked}"
    for branch in recipe.branches:
        steps = [name for step in branch.operators for name in step]
        for chain in manifest.chains:
            if chain.get("name") != branch.name:
                continue
            if [step.get("operator") for step in chain.get("steps", ())] != steps:
                yield f"branch {branch.name}: the manifest's chain is not of the operators that its recipe asks for"
            yield from _packages(recipe, chain)
    for name in sorted({*manifest.branches, *asked}):
        if manifest.branches.get(name) != sums.get(name, CountSums()).counts():
            yield f"branch {name}: the counts in the manifest are not the sum of its records"


def _packages(recipe: Recipe, chain: Mapping[str, Any]) -> Iterator[str]:
    """Yield where a built-in name is said to be of a package: its class, not the manifest, says what it does."""
    asked = {name for entry in recipe.quality.gates for name in entry} & {*GATES}
    parts = [(step, step.get("operator"), {*OPERATORS}) for step in chain.get("steps", ())]
    parts += [(gate, gate.get("gate"), asked) for gate in chain.get("gates", ())]
    for part, name, known in parts:
        if name in known and part.get("package") is not None:
            yield f"branch {chain['name']}: {name} is built in, and the manifest says that it is of a package"


def _watermark(manifest: Manifest) -> Iterator[str]:
    asked = Recipe.model_validate(manifest.recipe).watermark
    settings = None if asked == "none" else asked.model_dump(mode="json")
    recorded = manifest.watermark
    if recorded is not None:
        recorded = {name: value for name, value in recorded.items() if name != "key_id"}
    if recorded != settings:
        yield f"the manifest's watermark is {recorded or 'none'}, and its recipe asks for {settings or 'none'}"


def _units(manifest: Manifest, plan_order: PlanOrder) -> Iterator[str]:
    """Yield findings about the units of a complete data set: they are those of the plan, and cover every shard."""
    if plan_digest(plan_order.names_and_digests()) != manifest.plan_digest:
        yield "the plan_digest in the manifest is not that of its units"
    for chain in manifest.chains:
        left = manifest.limit
        for shard in manifest.shards if chain.get("copies") else ():
            rows = shard.rows if left is None else min(shard.rows, left)
            left = None if left is None else left - rows
            first, end = plan_order.ranges(str(chain.get("name")), shard.path)
            ends = np.concatenate([[0], end])
            if (first != ends[:-1]).any() or ends[-1] != rows:
                yield f"branch {chain.get('name')}: its units do not cover the {rows} rows of shard {shard.path}"
