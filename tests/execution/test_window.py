"""Windows: how many rows are in memory at a time, by what their headers declare, and where their pixels lie."""

import io
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.audit.replay import replay_sample
from pipeline.execution.background import BackgroundThreads
from pipeline.execution.job import Job, LoadedBranch
from pipeline.execution.window import WINDOW_BYTES, windows
from pipeline.shards.output.store import open_store
from schemas.manifest import UnitRecord
from tests.fixtures.data_sets import findings, plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import photos

FLIP = [{"name": "flipped", "copies": 1, "operators": [{"flip": {"probability": 1}}]}]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ALL_MAY_FAIL = {"max_quarantined_share": 1}
GIB = 1 << 30


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    out = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def headers_only(height: int, width: int) -> bytes:
    """A PNG that declares a size and ends there."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


def shard(folder: Path, images: list[bytes]) -> None:
    folder.mkdir(exist_ok=True)
    table = pa.table({"image": pa.array([{"bytes": image, "path": None} for image in images], STRUCT)})
    pq.write_table(table, folder / "a.parquet", row_group_size=64, use_dictionary=False, compression="none")


def groups(out: Path, folder: str) -> list[int]:
    (path,) = (out / folder).glob("*.parquet")
    footer = pq.read_metadata(path)
    return [footer.row_group(place).num_rows for place in range(footer.num_row_groups)]


def test_windows_hold_as_many_rows_as_fit_by_their_headers(tmp_path: Path) -> None:
    """Declared sizes count, whatever is behind them: 4 x 24, 2 x 40, 1 x 200 megapixels; small ones by their number."""
    sizes = [(4_000, 6_000)] * 5 + [(5_000, 8_000)] * 3 + [(10_000, 20_000)] * 2 + [(24, 32)] * 70
    shard(tmp_path / "data", [headers_only(*size) for size in sizes])
    plan = plan_of(write_recipe(tmp_path, FLIP, output={"uri": "out", "rows_per_unit": 100}, input={"uri": "data"}))
    run_here(plan)
    assert groups(tmp_path / "out", "quarantine") == [4, 2, 2, 1, 1, 64, 6]


def test_64_images_of_one_and_a_half_megapixels_are_one_window() -> None:
    assert 64 * 3 * 1_500_000 <= WINDOW_BYTES < 5 * 3 * 24_000_000


def test_images_of_one_shape_are_decoded_side_by_side(tmp_path: Path) -> None:
    images = [jpeg(20, 30, 1), jpeg(20, 30, 2), *photos(1, 20, 30), jpeg(20, 30, 3), jpeg(8, 8), jpeg(20, 30, 4)[:-9]]
    shard(tmp_path / "data", images)
    plan = plan_of(write_recipe(tmp_path, FLIP, input={"uri": "data"}, output={"uri": "out"}))
    branch = LoadedBranch.load(Job.of(plan), plan.branches[0], "cpu")
    with BackgroundThreads(1, "cpu") as background:
        (window,) = windows(branch, plan.units[0], background)
    one, two, other, three, small = (sample.pixels for sample in window.samples)
    assert one is not None and two is not None and three is not None and other is not None and small is not None
    assert one.base is two.base is three.base is not other.base
    assert three.ctypes.data == one.ctypes.data + 2 * one.nbytes
    assert list(window.errors) == [5]
    for pixels, data in zip((one, two, other, three, small), images, strict=False):
        assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_copies_never_share_memory_that_is_written_to(tmp_path: Path) -> None:
    shard(tmp_path / "data", [jpeg(20, 30, seed) for seed in range(4)])
    twice = [{**FLIP[0], "copies": 2}]
    plan = plan_of(write_recipe(tmp_path, twice, input={"uri": "data"}, output={"uri": "out"}))
    branch = LoadedBranch.load(Job.of(plan), plan.branches[0], "cpu")
    with BackgroundThreads(1, "cpu") as background:
        (window,) = windows(branch, plan.units[0], background)
    assert len(window.samples) == 8
    assert not any(sample.pixels is None or sample.pixels.flags.writeable for sample in window.samples)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize(("height", "width"), [(4_000, 6_000), (6_400, 7_800)])
def test_peak_memory_does_not_grow_with_the_size_of_images(tmp_path: Path, height: int, width: int) -> None:
    """24 rows of 24, or of 50, megapixels in one process: below 1.2 GiB."""
    shard(tmp_path / "data", [jpeg(height, width)] * 24)
    recipe = write_recipe(
        tmp_path, FLIP, input={"uri": "data"}, output={"uri": "out", "encoding": "jpeg", "rows_per_unit": 24}
    )
    done = subprocess.run([sys.executable, "-c", _RUN, str(recipe)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["accepted"] == 24
    assert found["peak"] < 1.2 * GIB, found["peak"] / GIB


_RUN = f"""
import json, sys
from pathlib import Path
from {__name__} import peak_of
print(json.dumps(peak_of(Path(sys.argv[1]))))
"""


def peak_of(recipe: Path) -> dict[str, int]:
    """Run a recipe in this process; return the images accepted and the peak of its memory, bytes."""
    (record,) = run_here(plan_of(recipe))[1]
    assert isinstance(record, UnitRecord)
    return {"accepted": record.accepted, "peak": _peak()}


def _peak() -> int:
    """Peak resident memory, bytes. Not `ru_maxrss`, which a child inherits from its parent."""
    return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0])


def stored_turned(height: int, width: int) -> bytes:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(jpeg(height, width, 3))).save(out, "JPEG", exif=exif)
    return out.getvalue()


def test_a_run_with_reduced_decoding(tmp_path: Path) -> None:
    """Verified and replayed to equal bytes; refused is what the full decode refuses; sizes are those of the image."""
    whole = jpeg(200, 160, 1)
    images = [whole, stored_turned(130, 170), *photos(1, 150, 150), whole[:400], whole[:-60] + b"\xff\xd9", whole]
    folder = tmp_path / "data"
    folder.mkdir()
    columns = {"image": pa.array([{"bytes": image, "path": None} for image in images], STRUCT)}
    pq.write_table(pa.table({**columns, "width": [160, 130, 150, 160, 160, 99]}), folder / "a.parquet")
    made, digests, reasons = {}, {}, {}
    for reduced in (False, True):
        settings = {"uri": "data", "max_pixels": 100_000, "reduced_decode": reduced}
        output = {"uri": f"out-{reduced}", "size": 32}
        plan = plan_of(write_recipe(tmp_path, FLIP, input=settings, output=output, quality=ALL_MAY_FAIL))
        (_, (record,)) = run_here(plan)
        assert isinstance(record, UnitRecord)
        out = tmp_path / f"out-{reduced}"
        assert findings(out) == []
        made[reduced], digests[reduced], reasons[reduced] = rows_of(out), record.digest, record.quarantine_reasons
    assert reasons[True] == reasons[False] == {"decode_failed": 2}
    assert digests[True] != digests[False]
    assert [row["width"] for row in made[True]] == [row["width"] for row in made[False]] == [32, 32, 32, 99]
    full, fast = ([decoded(row["image"]["bytes"]) for row in made[each]] for each in (False, True))
    assert [np.array_equal(one, other) for one, other in zip(full, fast, strict=True)] == [False, False, True, False]
    assert max(int(np.abs(one - other).max()) for one, other in zip(full, fast, strict=True)) < 8
    for row in made[True]:
        assert replay_sample(open_store(str(tmp_path / "out-True")), row["sample_id"]).equal


def test_originals_are_refused_as_the_other_branches_refuse_them(tmp_path: Path) -> None:
    """They are only checked, at reduced scale; with damaged, truncated, grey, turned, CMYK and too large images."""
    random = np.random.default_rng(5)
    images = [*photos(2, 20, 30), jpeg(90, 120), jpeg(400, 400), stored_turned(40, 64)]
    for mode in ("L", "CMYK"):
        out = io.BytesIO()
        Image.open(io.BytesIO(jpeg(60, 80, 2))).convert(mode).save(out, "JPEG")
        images.append(out.getvalue())
    for whole in images[2:]:
        for _ in range(6):
            at = int(random.integers(2, len(whole)))
            images += [whole[:at], whole[:at] + b"\xff\xd9", whole[:at] + random.bytes(1) + whole[at + 1 :]]
    shard(tmp_path / "data", images)
    settings, output = {"uri": "data", "max_pixels": 100_000}, {"uri": "out", "keep_originals": True}
    run_here(plan_of(write_recipe(tmp_path, FLIP, input=settings, output=output, quality=ALL_MAY_FAIL)))
    refused = {
        branch: {
            (row["source_row"], row["error_code"], row["error_message"])
            for row in rows_of(tmp_path / "out", "quarantine")
            if row["branch"] == branch
        }
        for branch in ("original", "flipped")
    }
    assert refused["original"] == refused["flipped"]
    assert 30 < len(refused["original"]) < len(images) - 7
    kept = [row for row in rows_of(tmp_path / "out") if row["branch"] == "original"]
    assert all(row["image"]["bytes"] == images[row["source_row"]] for row in kept)
    assert len(kept) + len(refused["original"]) == len(images)
    assert findings(tmp_path / "out") == []


def decoded(data: bytes) -> npt.NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(data))).astype(np.int16)
