"""Artifacts that `prepare` fits once to reference images, and units read by the sha256 of their content.

A unit's digest holds the inputs of a fit (images, models and parameters by content), never its result, whose last bits
may differ between machines. The first stored result is used from then on: `_artifacts/<digest of the inputs>.json`
names it and is written once, so a resume, a second driver and a replay read the same bytes.
"""

import hashlib
import json

from pipeline.errors import ConflictError, JobError
from pipeline.plan import Plan, StepPlan
from pipeline.planning.parts import read_assets
from pipeline.requirements import Fittable
from pipeline.seeding import canonical_json, digest
from pipeline.shards.output.store import Store


def fit_missing(plan: Plan, store: Store) -> None:
    """Fit and store the artifacts that steps of the plan need and the store lacks.

    Raises:
        JobError: the images or the model are not fit for it.
    """
    for step in steps_to_fit(plan):
        if fitted_sha256(step, store) is not None:
            continue
        part = step.make()
        assert isinstance(part, Fittable)
        data = part.fit(read_assets(step.models, step.images))
        sha256 = hashlib.sha256(data).hexdigest()
        store.create(f"_artifacts/{sha256}", data)
        store.create(_name(step), canonical_json({"operator": step.operator, "sha256": sha256}).encode())


def steps_to_fit(plan: Plan) -> list[StepPlan]:
    """Return the steps whose operators fit something to their images."""
    return [step for branch in plan.branches for step in branch.steps if fits(step)]


def fits(step: StepPlan) -> bool:
    """Whether `prepare` fits an artifact to the step's images, so that units do not read the images."""
    return bool(step.images) and step.make().requirements().fitted


def fitted_artifacts(plan: Plan, store: Store) -> dict[str, str]:
    """Return the origin of each fitted artifact, as text, by its sha256."""
    found = {}
    for step in steps_to_fit(plan):
        sha256 = fitted_sha256(step, store)
        if sha256 is not None:
            found[sha256] = f"fitted by {step.operator} to {', '.join(_references(step))}"
    return found


def fitted_sha256(step: StepPlan, store: Store) -> str | None:
    """Return the sha256 of a step's fitted artifact; None where there is none yet."""
    try:
        return str(json.loads(store.read(_name(step)))["sha256"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise ConflictError(f"{store.uri}/{_name(step)}: does not name what was fitted; remove the file") from None


def read_fitted(step: StepPlan, store: Store) -> bytes:
    """Return the bytes of a step's fitted artifact.

    Raises:
        JobError: it is not there, or not what its name says.
    """
    sha256 = fitted_sha256(step, store)
    try:
        data = store.read(f"_artifacts/{sha256}")
    except FileNotFoundError:
        raise JobError(f"{step.operator}: what it was fitted to is not in {store.uri}/_artifacts") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise JobError(f"{store.uri}/_artifacts/{sha256}: the content does not match its name")
    return data


def _name(step: StepPlan) -> str:
    return f"_artifacts/{digest(['fit', *step.identity()])}.json"


def _references(step: StepPlan) -> list[str]:
    return sorted({ref.reference for refs in step.images.values() for ref in refs})
