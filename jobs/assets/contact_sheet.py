"""Makes the picture that the README opens with: photographs through the families, by the product itself.

    python -m jobs.assets.contact_sheet --photographs 'DIR/*.parquet' [--out docs/families.jpg] [--work DIR]

`--photographs` are Parquet shards of the photographs that `docs/ATTRIBUTION.md` names, with their ids. The six of
`PHOTOGRAPHS` are copied to one shard, the recipes `families_*.yaml` of `jobs/recipes/` run over it and over the
embedded images, and the only copy of each image is laid out: other images need another seed in the recipe.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

import palimpsest
from jobs.assets.sheet import Cell, Sheet
from pipeline.model_files.references import ASSETS

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
PHOTOGRAPHS = (
    "train/hat/66ce58c5-5d0e-4469-9d9d-91f4ff185bfb.jpg",
    "train/dress/58c792f7-57e0-4193-bd4e-6866fae890a0.jpg",
    "train/shorts/547cba07-80cb-43cf-ae23-c7a126a6b766.jpg",
    "train/shoes/99df5351-ca44-4291-9fc6-844993b24280.jpg",
    "train/skirt/39dc8452-9d13-4941-a1e2-fc05df87ee4c.jpg",
    "train/outwear/cb8ad9eb-0347-42bf-8b49-6695f4a16dd0.jpg",
)
BANDS = (
    ("Styles, by embedded networks", "families_styles", (0, 1, 2)),
    ("Colours, textures and the classical control, without a network", "families_statistics", (3, 4, 5)),
)
SMALL = ("Diffusion and GAN, by the embedded models: 28 px, enlarged", "families_28px", (3, 5, 11, 23))
SUBTITLES = {
    "adain_style": "in the style of a picture",
    "style_randomization": "in a style drawn at random",
    "mix_style": "in the style of another row",
    "fast_style": "by a network of one style",
    "color_transfer": "the colours of a picture",
    "texture_quilt": "laid of pieces of a texture",
    "texture_synthesis": "the square is made anew",
    "classical": "TrivialAugment",
    "diffusion_edit": "the same, redrawn in part",
    "diffusion_mix": "towards another class",
    "diffusion_generate": "new, of the same classes",
    "gan_synth": "new, of the same classes",
}

Row = dict[str, Any]
"""A row of a data set, by column."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipes, write the picture and say how large it is."""
    parser = argparse.ArgumentParser(prog="python -m jobs.assets.contact_sheet", description=__doc__)
    parser.add_argument("--photographs", required=True, metavar="GLOB", help="Parquet shards with image, label and id")
    parser.add_argument("--out", type=Path, default=Path("docs/families.jpg"), metavar="FILE")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the data sets here, and use those that are")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        write_photographs(options.photographs, work / "photographs.parquet")
        sheet = Sheet(columns=5)
        for title, recipe, rows in BANDS:
            add_photographs(sheet, title, made(recipe, work, str(work / "photographs.parquet")), rows)
        title, recipe, small = SMALL
        add_small(sheet, title, made(recipe, work, "builtin:fashion-mnist", limit=24), small)
        sheet.save(options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")
    return 0


def write_photographs(glob: str, out: Path) -> None:
    """Copy the rows of `PHOTOGRAPHS`, in that order, to one shard. Raises SystemExit where one is missing."""
    files = [str(path) for path in sorted(Path(glob).parent.glob(Path(glob).name))]
    found = ds.dataset(files).to_table(filter=ds.field("id").isin(PHOTOGRAPHS))
    place = {name: index for index, name in enumerate(found["id"].to_pylist())}
    if missing := [name for name in PHOTOGRAPHS if name not in place]:
        raise SystemExit(f"not among {glob}: {missing[0]} ({len(missing)} in all)")
    pq.write_table(found.take(pa.array([place[name] for name in PHOTOGRAPHS])).combine_chunks(), out)


def made(recipe: str, work: Path, source: str, limit: int | None = None) -> list[Row]:
    """Run a recipe of the house, or go on with it, and return the rows of its data set."""
    path = RECIPES / f"{recipe}.yaml"
    result = palimpsest.run(path, input=source, output=work / recipe, limit=limit, executor="inline")
    rows: list[Row] = pq.read_table(result.data).to_pylist()
    return rows


def add_photographs(sheet: Sheet, title: str, rows: list[Row], shown: Sequence[int]) -> None:
    """Add a band: a line for each photograph, the source first, then the copy of every branch."""
    names = branches(rows)
    sheet.add_heads(title, [("source", "a photograph"), *((name, SUBTITLES[name]) for name in names)])
    found = {(row["branch"], row["source_row"]): row for row in rows}
    for number in shown:
        cells = [Cell([encoded(found["original", number])])]
        for name in names:
            row = found[name, number]
            cells.append(Cell([encoded(row)], inset_of(row, found), square_of(row)))
        sheet.add_line(cells)


def add_small(sheet: Sheet, title: str, rows: list[Row], shown: Sequence[int]) -> None:
    """Add a band of one line, four images a cell: sources, their edits, and new images of their classes."""
    names = branches(rows)
    sheet.add_heads(title, [("source", "Fashion-MNIST"), *((name, SUBTITLES[name]) for name in names)])
    found = {(row["branch"], row["source_row"]): row for row in rows}
    new = {(row["branch"], row["label"]): row for row in rows if row["source_row"] is None}
    labels = [found["original", number]["label"] for number in shown]
    cells = []
    for name in ("original", *names):
        of_rows = [found.get((name, number)) or new[name, label] for number, label in zip(shown, labels, strict=True)]
        cells.append(Cell([encoded(row) for row in of_rows]))
    sheet.add_line(cells)


def branches(rows: list[Row]) -> list[str]:
    """Return the branches of a data set in the order of `SUBTITLES`."""
    there = {row["branch"] for row in rows}
    return [name for name in SUBTITLES if name in there]


def encoded(row: Row) -> bytes:
    """Return the encoded image of a row."""
    return bytes(row["image"]["bytes"])


def inset_of(row: Row, found: Mapping[tuple[str, int], Row]) -> bytes | None:
    """Return the picture that a row was made after: an embedded style, or the photograph of its partner row."""
    if not row["partners"]:
        return None
    partner = row["partners"][0]
    if partner["source_row"] is not None:
        return encoded(found["original", partner["source_row"]])
    style: str = partner["source_uri"].rpartition("/")[2]
    return (ASSETS / "styles" / style).read_bytes()


def square_of(row: Row) -> tuple[int, int, int, int] | None:
    """Return left, top, width and height, in pixels, of what `texture_synthesis` made anew."""
    if row["branch"] != "texture_synthesis":
        return None
    drawn = json.loads(row["steps"][0]["params"])
    return drawn["left"], drawn["top"], drawn["width"], drawn["height"]


if __name__ == "__main__":
    raise SystemExit(main())
