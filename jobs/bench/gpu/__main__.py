"""The command: `python -m jobs.bench.gpu [--out FILE] [--sections a,b] [--sizes tiny] [--device cpu]`.

Prints one JSON object. It stands in `--out` after each figure, too, so that nothing is lost where time runs out; a
section that fails says so there and the others go on. Needs no Ray and no network.
"""

import argparse
import datetime
import gc
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from jobs.bench.gpu import adain, embedded_models, stable_diffusion, watermark, whole_runs
from jobs.bench.gpu.setting import Setting
from jobs.bench.gpu.sizes import SIZES
from jobs.bench.machine import commit, machine, versions
from pipeline.devices import device_model
from pipeline.messages import error_line

Section = Callable[[Setting], Iterator[tuple[str, dict[str, Any]]]]
SECTIONS: dict[str, Section] = {
    "marks": watermark.mark,
    "adain": adain.adain,
    "gan": embedded_models.gan,
    "diffusion": embedded_models.diffusion,
    "stable": stable_diffusion.edits,
    "run_adain": whole_runs.adain,
    "run_stable": whole_runs.diffusion,
    "compiled": stable_diffusion.compiled,
}
MIN_S = {"stable": 60.0, "run_stable": 75.0, "compiled": 100.0}
"""A section is left out where less time than this is left, on a GPU; 10 seconds for the others."""


def main(arguments: Sequence[str]) -> int:
    """Return 0 where every section made its figures, 1 where one failed or was left out."""
    options = _options(arguments)
    started = time.monotonic()
    found = _header(options)
    with tempfile.TemporaryDirectory(prefix="palimpsest-gpu-bench-") as folder:
        for name in options.sections:
            left = options.seconds - (time.monotonic() - started)
            print(f"{name}: {left:.0f} s left", file=sys.stderr, flush=True)
            _section(
                name, Setting(options.device, SIZES[options.sizes], Path(folder), options.cpus), left, found, options
            )
    found["seconds"] = round(time.monotonic() - started, 1)
    _keep(found, options.out)
    print(json.dumps(found, indent=1))
    return 1 if found["errors"] else 0


def _section(name: str, setting: Setting, left: float, found: dict[str, Any], options: argparse.Namespace) -> None:
    began = time.monotonic()
    if options.sizes == "full" and left < MIN_S.get(name, 10.0):
        found["errors"][name] = f"left out: {left:.0f} s were left"
    else:
        try:
            for figure, values in SECTIONS[name](setting):
                found["figures"][figure] = values
                _keep(found, options.out)
        except Exception as error:  # a section that fails must not take the others along
            traceback.print_exc()
            found["errors"][name] = error_line(error)
    found["section_s"][name] = round(time.monotonic() - began, 1)
    _keep(found, options.out)
    gc.collect()
    if setting.device != "cpu":
        torch.cuda.empty_cache()


def _header(options: argparse.Namespace) -> dict[str, Any]:
    cuda = options.device != "cpu"
    return {
        "bench": "gpu",
        "device": device_model(options.device),
        "memory_mib": round(torch.cuda.get_device_properties(0).total_memory / 2**20) if cuda else 0,
        "capability": list(torch.cuda.get_device_capability()) if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "machine": machine(),
        "commit": options.commit or commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "sizes": options.sizes,
        "rounds": SIZES[options.sizes].rounds,
        "figures": {},
        "errors": {},
        "section_s": {},
    }


def _keep(found: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m jobs.bench.gpu", description="Every figure that needs a GPU.")
    parser.add_argument("--out", type=Path, help="file that holds the figures made so far")
    parser.add_argument("--sections", type=_sections, default=list(SECTIONS), help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--sizes", choices=sorted(SIZES), default="full")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cpus", type=int, default=len(os.sched_getaffinity(0)), help="cores of a whole run")
    parser.add_argument("--seconds", type=float, default=420.0, help="no section starts that would not fit into these")
    parser.add_argument("--commit", help="of this source tree, where git cannot say it")
    options = parser.parse_args(arguments)
    if options.device == "cpu" and options.sizes == "full":
        parser.error("full sizes need a GPU; take --sizes tiny")
    return options


def _sections(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}; known: {', '.join(SECTIONS)}")
    return names


if __name__ == "__main__":
    warnings.simplefilter("ignore", FutureWarning)  # deprecation warnings of the libraries
    sys.exit(main(sys.argv[1:]))
