"""Style banks as a recipe names them: folder, glob, Parquet file or folder, builtin; and what is wrong with some."""

import hashlib
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.audit.replay import replay_sample
from pipeline.audit.verify import verify_dataset
from pipeline.errors import InputError, JobError
from pipeline.planning.reference_images import find_images, read_images
from pipeline.shards.output.store import open_store
from tests.fixtures.data_sets import plan_of, rows_of, run_here, write_input, write_recipe
from tests.fixtures.shard_files import photos, write_shard

BANK = photos(3, 40, 32, seed=50)


def styled(styles: str, **params: Any) -> dict[str, Any]:
    given = {"styles": styles, "style_size_px": 32, "min_side_px": 1, **params}
    return {"name": "styled", "copies": 1, "operators": [{"adain_style": given}]}


def reference_set_in(folder: Path) -> Path:
    """The same three images as files, as one Parquet file, and as two in a folder."""
    (folder / "pictures").mkdir()
    for index, data in enumerate(BANK):
        (folder / f"pictures/{index}.png").write_bytes(data)
    write_shard(folder / "bank.parquet", BANK)
    write_shard(folder / "set/part-0.parquet", BANK[:2])
    write_shard(folder / "set/part-1.parquet", BANK[2:], kind="bytes")
    return folder


@pytest.mark.parametrize("styles", ["pictures/", "pictures/*.png", "bank.parquet", "set/", "set/*.parquet"])
def test_every_kind_of_bank_is_the_same_images_and_in_the_lineage(styles: str, tmp_path: Path) -> None:
    write_input(reference_set_in(tmp_path) / "data", shards=1, rows=12)
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, [styled(styles)])))
    assert manifest.complete and manifest.counts.accepted == 12
    wanted = {hashlib.sha256(data).hexdigest() for data in BANK}
    rows = rows_of(tmp_path / "out")
    partners = [partner for row in rows for partner in row["partners"]]
    assert len(partners) == 12 and {partner["sha256"] for partner in partners} == wanted == set(manifest.artifacts)
    for partner in partners:
        if "parquet" in styles or styles == "set/":
            first = 2 if partner["source_uri"].endswith("part-1.parquet") else 0
            data = BANK[first + partner["source_row"]]
        else:
            assert partner["source_row"] is None
            data = Path(partner["source_uri"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == partner["sha256"]
    store = open_store(str(tmp_path / "out"))
    assert verify_dataset(store).ok
    for name in ("bank.parquet", "set", "pictures"):  # the data set needs none of them any more
        (tmp_path / name).rename(tmp_path / f"gone-{name}")
    assert replay_sample(store, rows[5]["sample_id"]).equal


def test_the_builtin_bank_is_there_for_everybody() -> None:
    refs = find_images("builtin:styles", ".")
    assert len(refs) == 10
    held = [(image.uri, hashlib.sha256(image.data).hexdigest()) for image in read_images(refs)]
    assert held == [(ref.uri, ref.sha256) for ref in refs]


@pytest.mark.parametrize(
    ("styles", "message"),
    [
        ("nothing/", r"'nothing/': no image file there \(.*\), nor a Parquet file"),
        ("empty/", r"'empty/': no image file there"),
        ("*.jpg", r"'\*.jpg': no image file there"),
        ("gone.parquet", r"'gone.parquet': .*nothing is there"),
        ("none/*.parquet", r"'none/\*.parquet': .*no Parquet file found"),
        ("norows.parquet", r"'norows.parquet': .*none with a row in it"),
        ("numbers.parquet", r"'numbers.parquet': input.columns.image: no column looks like an image"),
        ("null.parquet", r"'null.parquet': .*null.parquet#row=1: null_image: .*remove the row"),
        ("text.parquet", r"'text.parquet': .*not a Parquet file"),
        ("builtin:paintings", r"'builtin:paintings': no embedded image set has this name"),
    ],
)
def test_a_bank_without_images_is_one_line_before_anything_runs(styles: str, message: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("no picture")
    write_shard(tmp_path / "norows.parquet", [])
    write_shard(tmp_path / "null.parquet", [BANK[0], None])
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "numbers.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    write_input(tmp_path / "data", shards=1, rows=4)
    with pytest.raises(InputError, match=message) as caught:
        plan_of(write_recipe(tmp_path, [styled(styles)]))
    assert "\n" not in str(caught.value)


def test_a_set_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.planning.reference_images.MAX_ROWS", 2)
    write_shard(tmp_path / "bank.parquet", BANK)
    with pytest.raises(InputError, match="3 images; a set has 2 at most"):
        find_images("bank.parquet", str(tmp_path))


def test_a_row_that_changed_between_plan_and_run_is_named(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "bank.parquet", BANK)
    refs = find_images("bank.parquet", str(tmp_path))
    write_shard(path, [*BANK[:2], photos(1, seed=9)[0]])
    with pytest.raises(InputError, match=r"bank.parquet#row=2: the image has changed"):
        list(read_images(refs))


@pytest.mark.parametrize("styles", ["bank/", "bank.parquet"])
def test_a_style_that_is_no_image_stops_the_run_and_is_named(styles: str, tmp_path: Path) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank/a.png").write_bytes(b"no picture")
    write_shard(tmp_path / "bank.parquet", [b"no picture"])
    write_input(tmp_path / "data", shards=1, rows=4)
    with pytest.raises(JobError, match=r"adain_style.styles: .*(a.png|#row=0): not usable as a style") as caught:
        run_here(plan_of(write_recipe(tmp_path, [styled(styles)])))
    assert "\n" not in str(caught.value)


def test_masks_reach_the_operator_and_a_bad_one_quarantines_its_row(tmp_path: Path) -> None:
    import pyarrow as pa

    reference_set_in(tmp_path)
    masks = [np.pad(np.ones((8, 8)), ((4, 12), (6, 18))).tolist() for _ in range(6)]
    masks[2] = np.ones((3, 3)).tolist()
    masks[4] = None
    extra = {"where_it_is": pa.array(masks, pa.list_(pa.list_(pa.float64())))}
    write_shard(tmp_path / "data/a.parquet", photos(6), labels=[0] * 6, ids=list("abcdef"), extra=extra)
    branch = styled("pictures/", mask="where_it_is", keep="background")
    manifest, _ = run_here(plan_of(write_recipe(tmp_path, [branch])))
    assert (manifest.complete, manifest.counts.accepted, manifest.counts.quarantined) == (True, 4, 2)
    lost = {row["source_id"]: row["error_code"] for row in rows_of(tmp_path / "out", "quarantine")}
    assert lost == {"c": "mask_size", "e": "no_mask"}
    assert verify_dataset(open_store(str(tmp_path / "out"))).ok


def test_a_bank_on_a_server_that_refuses_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as held:  # bound and not listening: it refuses
        held.bind(("127.0.0.1", 0))
        for uri in (f"http://127.0.0.1:{held.getsockname()[1]}/", "no-such-protocol://x/"):
            with pytest.raises(InputError, match="cannot be listed") as caught:
                find_images(uri, str(tmp_path))
            assert "\n" not in str(caught.value)
