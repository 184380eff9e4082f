"""The sheet puts pictures where they belong."""

import io
from pathlib import Path

from PIL import Image

from jobs.assets.sheet import GAP, HEADS, MARGIN, SIDE, Cell, Sheet


def png(colour: str, width: int = 40, height: int = 60) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, "PNG")
    return stream.getvalue()


def test_cells_stand_in_columns_under_their_heads(tmp_path: Path) -> None:
    sheet = Sheet(columns=2)
    sheet.add_heads("A band", [("source", "a photograph"), ("flip", "mirrored")])
    sheet.add_line([Cell([png("red")]), Cell([png("lime")])])
    sheet.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.size == (2 * MARGIN + 2 * SIDE + GAP, HEADS + SIDE + MARGIN)
        middle = HEADS + SIDE // 2
        assert drawn.getpixel((MARGIN + SIDE // 2, middle)) == (255, 0, 0)
        assert drawn.getpixel((MARGIN + SIDE + GAP // 2, middle)) == (255, 255, 255)
        assert drawn.getpixel((MARGIN + SIDE + GAP + SIDE // 2, middle)) == (0, 255, 0)


def test_four_small_images_are_enlarged_a_whole_number_of_times() -> None:
    cell = Cell([png(colour, 28, 28) for colour in ("red", "lime", "blue", "black")]).drawn()
    side = 4 * 28
    assert [cell.getpixel((x, y)) for y in (0, side + GAP) for x in (0, side + GAP)] == [
        (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0),
    ]  # fmt: skip
    assert cell.getpixel((side, 0)) == (255, 255, 255)


def test_an_inset_stands_in_the_corner() -> None:
    cell = Cell([png("red")], inset=png("blue")).drawn()
    assert (cell.getpixel((SIDE - 1, SIDE - 1)), cell.getpixel((0, 0))) == ((0, 0, 255), (255, 0, 0))
