"""Does style help a classifier on corrupted images more than the best classical augmentation does?

    python -m jobs.measure.robustness --data URI [--test IDX] --work DIR [--treatments JSON] [--seeds 10] [--pilot]

Arms are paired by seed and trained for equally many steps. The best classical control is chosen on clean images'
corrupted *validation* versions, and so is the best treatment; the test images are looked at once, at the end, and never
under `--pilot`. Prints a Markdown table, and one JSON object as the last line. What was made and trained is kept in the
work folder: the same call again goes on from there.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from jobs.bench.machine import machine
from jobs.measure.arms import Arm, accuracies, arms_as_json, controls, tensor_of, train_classifier, treatment
from jobs.measure.copies import Copies
from jobs.measure.corruptions import CORRUPTIONS, FAMILIES, corrupted
from jobs.measure.paired import CLEAN, Record, chosen, differences, figure_of, interval
from jobs.train.data.images import ImageSet, load_images
from pipeline.errors import InputError, PalimpsestError
from pipeline.seeding import digest

SPLIT_SEED = 0
VALIDATION, TEST = 1, 2  # seeds of their corruptions
WORST_CLEAN = -0.3  # points of clean accuracy that robustness may cost
STYLE = {"name": "style", "share": 0.5, "operators": [{"adain_style": {}}]}
TREATMENTS = [STYLE, STYLE | {"name": "style + best control", "with_best_control": True}]
FIGURES = (CLEAN, "corrupted", *FAMILIES)


@dataclass(frozen=True)
class Data:
    """Images trained on, and the sets that classifiers are tested on: clean, and `corruption/severity`."""

    train: ImageSet
    validation: dict[str, ImageSet]
    test: dict[str, ImageSet]
    classes: int


def load_data(options: argparse.Namespace) -> Data:
    """Read and split the images; the same rows fall into the same part every time. Raises InputError."""
    images = load_images(options.data, options.size_px)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images.labels))
    if options.test:
        tested = load_images(options.test, options.size_px, options.test_images)
    else:
        tested, order = _taken(images, order[: options.test_images]), order[options.test_images :]
    held, rows = order[: options.validation_images], order[options.validation_images :][: options.images]
    if len(rows) < options.images:
        raise InputError(f"images {options.data!r}: {len(rows)} are left to train on, not {options.images}")
    evaluated = (_taken(images, held), VALIDATION), (tested, TEST)
    sets = [_versions(shown, options.severities, options.corrupted_images, seed) for shown, seed in evaluated]
    return Data(_taken(images, rows), sets[0], {} if options.pilot else sets[1], images.classes)


def _taken(images: ImageSet, rows: np.ndarray) -> ImageSet:
    chosen_rows = torch.from_numpy(rows)
    return ImageSet(images.pixels[chosen_rows], images.labels[chosen_rows])


def _versions(images: ImageSet, severities: Sequence[int], limit: int, seed: int) -> dict[str, ImageSet]:
    """The images as they are, and the first `limit` of them under each corruption."""
    pixels, labels = images.pixels[:limit].permute(0, 2, 3, 1).contiguous().numpy(), images.labels[:limit]
    found = {CLEAN: images}
    for name in CORRUPTIONS:
        for severity in severities:
            found[f"{name}/{severity}"] = ImageSet(tensor_of(corrupted(pixels, name, severity, [seed])), labels)
    return found


class Trials:
    """Trains arms seed by seed, and keeps each record in a file of the work folder."""

    def __init__(self, data: Data, copies: Copies, folder: Path, steps: int, about: dict[str, Any]) -> None:
        self._data, self._copies, self._steps, self._about = data, copies, steps, about
        self._path = folder / "records.jsonl"
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._known = {row["key"]: Record(**row["record"]) for row in map(json.loads, lines)}

    def run(self, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Record]:
        """One record of each arm and seed, all arms of a seed together."""
        made_of = [[[share, self._copies.key_of(chain)] for share, chain in arm.parts] for arm in arms]
        return [self._one(arm, parts, seed) for seed in seeds for arm, parts in zip(arms, made_of, strict=True)]

    def _one(self, arm: Arm, parts: list[list[Any]], seed: int) -> Record:
        key = digest([arm.name, parts, seed, self._steps, self._about])
        if key not in self._known:
            train = self._data.train
            net = train_classifier(arm, self._copies, train.labels, self._data.classes, seed, self._steps)
            record = Record(arm.name, seed, accuracies(net, self._data.validation), accuracies(net, self._data.test))
            self._known[key] = record
            with open(self._path, "a") as file:
                file.write(json.dumps({"key": key, "record": record.as_json()}) + "\n")
            shown = {name: round(figure_of(record.validation, name), 2) for name in FIGURES}
            print(f"robustness: seed {seed} {arm.name}: validation {shown}", file=sys.stderr, flush=True)
        return self._known[key]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the JSON object that `main` prints."""
    torch.set_num_threads(options.threads)
    folder = Path(options.work)
    data = load_data(options)
    copies = Copies(data.train.pixels, options.copies, folder / "copies")
    evaluated = [options.severities, options.validation_images, options.test_images, options.corrupted_images]
    about = {
        "data": digest([[Path(uri).name for uri in (options.data, options.test or "")], options.images, evaluated]),
        "copies": options.copies,
        "pilot": options.pilot,
    }
    trials, seeds = Trials(data, copies, folder, options.steps, about), range(options.seeds)
    classical = controls()
    records = trials.run(classical, seeds)
    names = [arm.name for arm in classical]
    control = chosen(records, names)
    best = next(arm for arm in classical if arm.name == control)
    treatments = [treatment(spec, best) for spec in options.treatments]
    records += trials.run(treatments, seeds)
    style = chosen(records, [arm.name for arm in treatments])
    settings = {name: value for name, value in vars(options).items() if name not in ("work", "treatments", "data")}
    return {
        "trained": options.images,
        "tested": {name: len(some[CLEAN].labels) for name, some in vars(data).items() if name == "test" and some},
        "best_control": control,
        "best_treatment": style,
        "arms": arms_as_json([*classical, *treatments]),
        "validation": table(records, "validation"),
        **({} if options.pilot else {"test": table(records, "test"), **compared(records, style, control, names)}),
        "kept_real": copies.kept_real,
        "settings": settings | {"test": Path(options.test or "").name},
        "machine": machine(),
    }


def table(records: Sequence[Record], part: str) -> dict[str, dict[str, float]]:
    """Mean accuracies in per cent by arm and figure, on `validation` or `test` images."""
    found: dict[str, dict[str, float]] = {}
    for arm in dict.fromkeys(record.arm for record in records):
        own = [getattr(record, part) for record in records if record.arm == arm]
        found[arm] = {name: round(mean(figure_of(one, name) for one in own), 2) for name in FIGURES}
    return found


def compared(records: Sequence[Record], style: str, control: str, others: Sequence[str]) -> dict[str, Any]:
    """Paired differences on test images with their 95 % intervals, and what follows from those to the best control.

    `against` compares with the other controls, too.
    """
    against = {
        other: {name: interval(differences(records, style, other, name)) for name in FIGURES}
        for other in (control, *(name for name in others if name != control))
    }
    return {
        "against": {other: {name: one.as_json() for name, one in found.items()} for other, found in against.items()},
        "more_robust": against[control]["corrupted"].low > 0,
        "clean_kept": against[control][CLEAN].low >= WORST_CLEAN,
    }


def as_markdown(found: dict[str, Any]) -> str:
    """The accuracies as a table; the chosen arms in bold."""
    part = "test" if "test" in found else "validation"
    lines = [f"| {part} accuracy, % | {' | '.join(FIGURES)} |", "|---|" + "---|" * len(FIGURES)]
    for arm, figures in found[part].items():
        shown = f"**{arm}**" if arm in (found["best_control"], found["best_treatment"]) else arm
        lines.append(f"| {shown} | " + " | ".join(f"{figures[name]:.2f}" for name in FIGURES) + " |")
    for control, differing in found.get("against", {}).items():
        cells = [differing[name] for name in FIGURES]
        shown = [f"{cell['mean']:+.2f} [{cell['low']:+.2f}, {cell['high']:+.2f}]" for cell in cells]
        lines.append(f"| {found['best_treatment']} − {control} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m jobs.measure.robustness", description=__doc__)
    made.add_argument("--data", required=True, help="labelled images: IDX file, Parquet glob or folder")
    made.add_argument("--test", help="test images; without it some of --data are held out, always the same")
    made.add_argument("--work", required=True, help="folder for copies and records")
    made.add_argument("--treatments", type=json.loads, default=TREATMENTS, help="JSON list of {name, share, operators}")
    made.add_argument("--pilot", action="store_true", help="look at validation images alone")
    made.add_argument("--seeds", type=int, default=10)
    made.add_argument("--images", type=int, default=10_000, help="trained on (default 10000)")
    made.add_argument("--copies", type=int, default=2, help="of each image and chain (default 2)")
    made.add_argument("--steps", type=int, default=700, help="of 64 images (default 700)")
    made.add_argument("--validation-images", type=int, default=1000)
    made.add_argument("--test-images", type=int, default=10_000)
    made.add_argument("--corrupted-images", type=int, default=2000, help="of each, at most (default 2000)")
    made.add_argument("--severities", type=int, nargs="+", default=[1, 3, 5], choices=range(1, 6))
    made.add_argument("--size-px", type=int, default=32, help="of images from Parquet (default 32)")
    made.add_argument("--threads", type=int, default=1)
    return made


def main(arguments: Sequence[str]) -> int:
    try:
        found = measure(parser().parse_args(arguments))
    except PalimpsestError as error:
        print(f"robustness: {error}", file=sys.stderr)
        return 2
    print(as_markdown(found) + "\n")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
