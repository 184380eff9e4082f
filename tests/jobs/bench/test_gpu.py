"""The GPU bench: every section runs at tiny sizes on the CPU, without Ray; what fails is said and loses nothing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.bench.gpu import __main__ as command
from jobs.bench.gpu.images import seeded_images
from jobs.bench.gpu.setting import Setting
from pipeline.devices import device_model

FIGURES = {
    "mark_48_px": {"embed", "read", "embed_one_a_call", "embed_on_cpu"},
    "adain": {"palimpsest_float32", "one_at_a_time", "batches"},
    "gan": {"palimpsest", "loop"},
    "diffusion": {
        "palimpsest_equal_steps", "palimpsest_third_of_steps", "palimpsest_third_of_steps_batch_8x",
        "palimpsest_4_steps", "loop",
    },
    "25_steps": {"palimpsest", "loop_float32"},
    "4_steps": {"palimpsest", "loop_float32"},
    "run_adain": {"palimpsest", "one_at_a_time"},
    "run_4_steps": {"palimpsest", "loop_float32"},
    "run_25_steps": {"palimpsest", "loop_float32"},
}  # fmt: skip
WITHOUT_RAY = """
import sys
sys.modules["ray"] = None  # an import of it fails
from jobs.bench.gpu.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_every_section_runs_at_tiny_sizes_and_without_ray(tmp_path: Path) -> None:
    names = ",".join(name for name in command.SECTIONS if name != "compiled")
    options = ["--sizes", "tiny", "--device", "cpu", "--cpus", "1", "--out", str(tmp_path / "out.json")]
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, *options, "--sections", names], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout)
    assert found == json.loads((tmp_path / "out.json").read_text())
    assert found["errors"] == {} and found["device"] == device_model("cpu") and found["seconds"] > 0
    assert {name: set(figures["images_per_s"]) for name, figures in found["figures"].items()} == FIGURES
    assert all(speed > 0 for figures in found["figures"].values() for speed in figures["images_per_s"].values())
    assert found["figures"]["run_adain"]["devices"] == [device_model("cpu")]


def test_a_section_that_fails_is_said_and_keeps_what_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(setting: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "first", {"images_per_s": {"palimpsest": 1.0}}
        raise RuntimeError("no such\nkernel")

    def whole(setting: Setting) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "second", {"images_per_s": {"palimpsest": 2.0}}

    monkeypatch.setattr(command, "SECTIONS", {"broken": broken, "whole": whole})
    options = ["--sizes", "tiny", "--device", "cpu", "--out", str(tmp_path / "out.json")]
    assert command.main([*options, "--sections", "broken,whole"]) == 1
    found = json.loads((tmp_path / "out.json").read_text())
    assert found == json.loads(capsys.readouterr().out)
    assert found["errors"] == {"broken": "RuntimeError: no such kernel"} and set(found["figures"]) == {
        "first",
        "second",
    }


@pytest.mark.parametrize("options", [["--sections", "marks,nothing"], ["--sizes", "full", "--device", "cpu"]])
def test_what_cannot_be_measured_is_refused(options: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(options)
    assert refused.value.code == 2


def test_no_two_pictures_are_equal() -> None:
    some = seeded_images(32, range(5, 65))
    assert len({image.tobytes() for image in some}) == 60
    assert (some[7:9] == seeded_images(32, range(12, 14))).all()
