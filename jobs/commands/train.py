"""`palimpsest train`: a model that an operator uses, on Ray Train."""

import argparse
from importlib import import_module

HELP = "train a model that an operator uses, with Ray Train"
KINDS = {
    "adain": "jobs.train.adain",
    "concept": "jobs.train.concept",
    "diffusion": "jobs.train.diffusion",
    "distill_diffusion": "jobs.train.distill_diffusion",
    "fast_style": "jobs.train.fast_style",
    "gan": "jobs.train.gan",
}
"""Kind of model -> module whose `train(config_path)` returns the path of the model."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("kind", metavar="KIND", help="adain, concept, diffusion, distill_diffusion, fast_style or gan")
    command.add_argument("config", metavar="CONFIG", help="a YAML file")


def call(options: argparse.Namespace) -> int:
    """Train the model and print its path. The same command again goes on where the last one stopped."""
    return train(options.kind, options.config)


def train(kind: str, config_path: str) -> int:
    """Train a model of this kind and print its path; return 0.

    Raises:
        JobError: the kind is unknown.
        RecipeError: the configuration is wrong.
        InputError: images are missing.
    """
    if kind not in KINDS:
        from pipeline.errors import JobError

        raise JobError(f"train: kind {kind!r} is not known; known: {', '.join(sorted(KINDS))}")
    print(import_module(KINDS[kind]).train(config_path))
    return 0
