"""The recipe that a user writes: every key, its type, range and default. The manifest stores it resolved."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from schemas.closed import Closed

MAX_SIZE_PX = 16_384
MAX_IMAGE_BYTES = 256 << 20
MAX_ROWS_PER_UNIT = 65_536
MAX_COPIES = 10_000
MAX_MICRO_BATCH = 4_096
MAX_BRANCHES = 500
MAX_OPERATORS = 64
"""Most operators of one branch."""
MAX_URIS = 10_000


def _size(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value != "source" and not (whole and 1 <= value <= MAX_SIZE_PX):
        text = f"needs `source`, or a whole number of pixels from 1 to {MAX_SIZE_PX}"
        raise PydanticCustomError("size", text)
    return value


def _uris(value: Any) -> Any:
    many = isinstance(value, list | tuple) and 0 < len(value) <= MAX_URIS
    if not all(isinstance(uri, str) and uri.strip() for uri in (value if many else [value])):
        raise PydanticCustomError("uris", f"needs a path, a glob or a URI, or a list of 1 to {MAX_URIS:,} of these")
    return value


def _class_names(value: Any) -> Any:
    names, indexes = value if isinstance(value, list | tuple) else [value], []
    if isinstance(value, dict):
        names, indexes = list(value.values()), list(value)
    fit = all(isinstance(name, str) for name in names) and all(str(index).isdecimal() for index in indexes)
    if value is not None and not fit:
        text = "needs a list of names, every index with its name, as in {0: cat}, or a file of names; "
        raise PydanticCustomError("class_names", text + "names such as 7 or no stand in quotes")
    return value


class Columns(Closed):
    """Names of the image, label and id columns; found automatically if omitted. `label: none`: no labels."""

    image: str | None = None
    label: str | None = None
    id: str | None = None


class Input(Closed):
    """The labelled shards: a local path, glob or folder, a URI that fsspec opens, or a list of these."""

    renamed: ClassVar[Mapping[str, str]] = {"unaligned": "passthrough", "depth_bits": "bit_depth"}

    uri: Annotated[str | tuple[str, ...], BeforeValidator(_uris)]
    split: str | None = Field(
        None, min_length=1, description="the split to take, such as train, or `all`; required where there are several"
    )
    columns: Columns = Columns()
    class_names: Annotated[tuple[str, ...] | dict[int, str] | str | None, BeforeValidator(_class_names)] = Field(
        None,
        description="names of the classes by index: a list, every index with its name, or a file (a name a line, or "
        "JSON); found in the metadata, or in labels that are text, if omitted",
    )
    drop: tuple[str, ...] = Field((), description="input columns to leave out of the output")
    max_pixels: int = Field(50_000_000, ge=1, description="an image that declares more pixels is refused undecoded")
    allow_paths: tuple[str, ...] = Field(
        (), description="folders that absolute paths in rows may name; relative ones stay below their shard's folder"
    )
    allow_urls: tuple[str, ...] = Field(
        (), description="beginnings of URLs that rows may name, such as https://images.example.org/cats/"
    )
    max_image_bytes: int = Field(
        MAX_IMAGE_BYTES, ge=1, le=2**31 - 1, description="a larger file that a row names is not read"
    )
    passthrough: tuple[str, ...] = Field(
        (), description="columns that look like boxes, masks or image sizes and are not: carried as they are"
    )
    bit_depth: int | None = Field(
        None, ge=8, le=16, description="bits that 16-bit images use: 2 ** bits - 1 is white; required where in doubt"
    )
    reduced_decode: bool = Field(
        False,
        description="decode a JPEG at 1/2, 1/4 or 1/8 where both sides stay at least twice output.size: faster, "
        "and other pixels",
    )


class Output(Closed):
    """Where the data set is written, and how its images are stored."""

    uri: str
    encoding: Literal["png", "jpeg", "webp"] = "png"
    quality: int = Field(90, ge=1, le=100, description="quality of JPEG and WebP")
    rows_per_unit: int = Field(256, ge=1, le=MAX_ROWS_PER_UNIT, description="source rows, or new images, a unit")
    max_file_bytes: int = Field(
        2 << 30,
        ge=1 << 20,
        description="bytes that a unit's file is to have at most, by the shard's mean bytes a row: fewer rows a unit "
        "where images are large",
    )
    keep_originals: bool = Field(False, description="carry the source rows along, byte for byte, as branch `original`")
    size: Annotated[Literal["source"] | int, BeforeValidator(_size)] = Field(
        "source", description="`source`, or N: N x N pixels, resized and centre-cropped"
    )
    channels: Literal["source", "rgb", "grey"] = "source"


class Branch(Closed):
    """A branch: a chain of operators over every source row, or new images for every class."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,39}$")
    copies: int | None = Field(None, ge=1, le=MAX_COPIES, description="images of every source row")
    per_class: int | None = Field(None, ge=1, description="new images of every class")
    count: int | None = Field(None, ge=1, description="new images without a class")
    where: str | None = Field(
        None,
        description="which source rows: a condition of each row alone, over columns without image data; "
        "`label` is what is stored, a text where labels are text",
    )
    operators: tuple[dict[str, Any], ...] = Field(min_length=1, max_length=MAX_OPERATORS)


class Quality(Closed):
    """Gates that decide which images are kept, and how much may fail. Limits on failures and time are in no digest."""

    gates: tuple[dict[str, Any], ...] = Field((), description="one gate an entry; each scores every made image")
    max_attempts: int = Field(1, ge=1, le=100, description="most attempts to make an image that no gate refuses")
    max_quarantined_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of a branch's rows in quarantine beyond which the run stops, exit 1; one row always may be",
    )
    max_failed_units: int | None = Field(
        None,
        ge=0,
        description="failed units beyond which the run stops, exit 1; if omitted 10, or 2 while none is made",
    )
    unit_timeout_s: float | None = Field(
        None,
        gt=0,
        description="seconds after which a unit's worker on Ray is ended, as if it had died; no limit if omitted",
    )


class Watermark(Closed):
    """The invisible watermark of every image that is made."""

    scheme: Literal["stdm"] = "stdm"
    psnr_db: float = Field(42.0, ge=30.0, le=60.0)


class Resources(Closed):
    """Resources of the actors of a branch or an operator. They change speed, never the output."""

    gpus: float | None = Field(None, ge=0.0, description="share of a GPU an actor")
    cpus: float = Field(1.0, gt=0.0)
    actors: int | None = Field(None, ge=1)


class Numerics(Closed):
    """Numeric settings that change bytes but not the meaning of the output; in every unit digest."""

    micro_batch: int | None = Field(
        None, ge=1, le=MAX_MICRO_BATCH, description="images a model call; the operator's own if omitted"
    )
    threads: int = Field(1, ge=1, le=256, description="CPU threads an actor")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="what the networks of the diffusion operators, gan_synth, fast_style and those by AdaIN compute in",
    )
    tf32: bool = Field(
        False,
        description="on a GPU: products and convolutions of float32 keep 11 of its 24 bits; up to eight times as fast",
    )


class Recipe(Closed):
    """The whole recipe."""

    version: Literal[1]
    seed: int = Field(ge=0, lt=2**63)
    input: Input
    output: Output
    branches: tuple[Branch, ...] = Field(min_length=1, max_length=MAX_BRANCHES)
    quality: Quality = Quality()
    watermark: Watermark | Literal["none"] = Watermark()
    resources: dict[str, Resources] = Field(default_factory=dict)
    numerics: Numerics = Numerics()
