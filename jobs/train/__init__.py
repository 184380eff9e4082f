"""Training of the models that operators use, one module per kind of model, all on Ray Train."""

from importlib import import_module

from pipeline.errors import JobError

KINDS = {
    "adain": "jobs.train.adain",
    "concept": "jobs.train.concept",
    "diffusion": "jobs.train.diffusion",
    "distill_diffusion": "jobs.train.distill_diffusion",
    "fast_style": "jobs.train.fast_style",
    "gan": "jobs.train.gan",
}  # kind -> module with train(config_path) -> path of the model


def train(kind: str, config_path: str) -> int:
    """Train a model of this kind; exit code 0. The same call again goes on where the last one stopped.

    Raises JobError for an unknown kind, RecipeError for a wrong configuration, InputError for missing images.
    """
    if kind not in KINDS:
        raise JobError(f"train: kind {kind!r} is not known; known: {', '.join(sorted(KINDS))}")
    print(import_module(KINDS[kind]).train(config_path))
    return 0
