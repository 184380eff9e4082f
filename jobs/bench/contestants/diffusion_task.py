"""The task of a contestant of `bench diffusion`, as JSON on its command line."""

import json
from dataclasses import asdict, dataclass

CLASSIFIER_STEPS = 1_000  # training steps of the classifier that is tested on real images


@dataclass(frozen=True)
class GenerationTask:
    """One contestant's work: `images` images of an embedded model, evenly of its classes, into `output`."""

    images: int
    steps: int
    output: str = ""
    method: str = "euler"
    executor: str = "ray"
    workers: int = 2
    seed: int = 0
    model: str = "builtin:fashion-diffusion"  # of the product; the loop takes this one
    dtype: str = "float32"  # `numerics.dtype` of the product; the loop is always float32

    def to_json(self) -> str:
        return json.dumps(asdict(self))
