"""16-bit images: how many of their bits say something, and which of their values are transparent."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError, RowError
from pipeline.shards.images.codecs import decode
from tests.fixtures.broken_images import raw_png, save, source
from tests.fixtures.data_sets import plan_of, rows_of, run_here, write_recipe
from tests.fixtures.shard_files import photos, write_shard

MAX_PIXELS = 10**8


def grey(values, kind="PNG"):
    return save(Image.fromarray(np.asarray(values, np.uint16)), kind)


def with_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    """Return a PNG with a chunk before its pixels."""
    at = data.index(b"IDAT") - 4
    return (
        data[:at] + struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) + data[at:]
    )


def code(data, bit_depth=None):
    with pytest.raises(RowError) as caught:
        decode(data, MAX_PIXELS, bit_depth)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_are_asked_about(kind):
    data = grey([[0, 2048, 4095]], kind)
    assert code(data)[0] == "ambiguous_depth" and "4095 of 65535; say how many bits" in code(data)[1]
    assert decode(data, MAX_PIXELS, 12)[0, :, 0].tolist() == [0, 128, 255]
    assert decode(data, MAX_PIXELS, 14)[0, :, 0].tolist() == [0, 32, 64]
    assert decode(data, MAX_PIXELS, 16)[0, :, 0].tolist() == [0, 8, 16]
    assert code(data, 11) == ("depth_exceeded", "its values reach 4095, and input.bit_depth: 11 ends at 2047")


def test_what_is_plain_needs_no_answer():
    assert decode(grey([[0, 4096]]), MAX_PIXELS)[0, :, 0].tolist() == [0, 16]
    assert decode(grey([[0, 0]]), MAX_PIXELS)[0, :, 0].tolist() == [0, 0]
    assert decode(save(source(), "PNG"), MAX_PIXELS, 12).shape == (24, 32, 3)
    ppm = b"P5 3 1 4095\n" + struct.pack(">3H", 0, 100, 200)  # says its largest value itself
    assert decode(ppm, MAX_PIXELS)[0, :, 0].tolist() == [0, 6, 12]


def test_every_value_is_rounded_to_the_nearest():
    values = np.arange(4096)
    assert np.array_equal(decode(grey([values]), MAX_PIXELS, 12)[0, :, 0], np.floor(values * 255 / 4095 + 0.5))


def test_a_transparent_value_of_16_bit_grey_is_white_and_no_measure_of_depth():
    data = grey([[0, 30_000, 30_001, 65_535]])
    assert decode(with_chunk(data, b"tRNS", struct.pack(">H", 30_000)), MAX_PIXELS)[0, :, 0].tolist() == [
        0,
        255,
        117,
        255,
    ]
    data = with_chunk(grey([[0, 100, 65_535]]), b"tRNS", struct.pack(">H", 65_535))
    assert code(data)[0] == "ambiguous_depth"
    assert decode(with_chunk(grey([[0, 100, 1023]]), b"tRNS", struct.pack(">H", 1023)), MAX_PIXELS, 10)[0, 1, 0] == 25


def test_16_bit_alpha_is_laid_over_white():
    rows = b"\0" + struct.pack(">4H", 10_000, 65_535, 10_000, 0)
    assert decode(raw_png(2, 1, 16, 4, rows), MAX_PIXELS)[0, :, 0].tolist() == [39, 255]
    rows = b"\0" + struct.pack(">8H", 10_000, 20_000, 30_000, 65_535, 1, 2, 3, 0)
    assert decode(raw_png(2, 1, 16, 6, rows), MAX_PIXELS)[0].tolist() == [[39, 78, 117], [255, 255, 255]]


def test_a_transparent_colour_of_16_bits_is_white():
    data = raw_png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 10_000, 20_000, 30_000, 60_000, 20_000, 30_000))
    clear = with_chunk(data, b"tRNS", struct.pack(">3H", 10_000, 20_000, 30_000))
    assert decode(clear, MAX_PIXELS)[0].tolist() == [[255, 255, 255], [234, 78, 117]]


def test_16_bit_colour_is_asked_about_and_cannot_be_stretched():
    data = raw_png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 0, 1, 2, 4095, 0, 0))
    assert code(data)[0] == "ambiguous_depth"
    assert code(data, 12)[0] == "unsupported_mode"
    assert decode(data, MAX_PIXELS, 16)[0, 1].tolist() == [15, 0, 0]


def test_the_plan_asks_and_the_answer_is_in_every_digest(tmp_path):
    write_shard(tmp_path / "data" / "a.parquet", [*photos(1), grey([[0, 2048, 4095]] * 3)], labels=[0, 1])
    with pytest.raises(InputError, match=r"input\.bit_depth: .*a\.parquet row 1: its 16-bit values reach only 4095"):
        plan_of(write_recipe(tmp_path))
    with pytest.raises(InputError, match=r"row 1: its values reach 4095, and input\.bit_depth: 10 ends at 1023"):
        plan_of(write_recipe(tmp_path, input={"bit_depth": 10}))
    plans = [plan_of(write_recipe(tmp_path, input={"bit_depth": bits})) for bits in (12, 16)]
    assert plans[0].digest != plans[1].digest
    run_here(plans[0])
    dark = [row for row in rows_of(tmp_path / "out") if row["source_row"] == 1]
    assert {decode(row["image"]["bytes"], MAX_PIXELS).max() for row in dark} == {255}


def test_an_image_beyond_the_first_rows_is_quarantined(tmp_path):
    write_shard(tmp_path / "data" / "a.parquet", [*photos(9), grey([[0, 2048, 4095]] * 3)], labels=[0] * 10)
    run_here(plan_of(write_recipe(tmp_path)))
    assert [row["error_code"] for row in rows_of(tmp_path / "out", "quarantine")] == ["ambiguous_depth"]
