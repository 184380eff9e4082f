"""A hundred shards whose names, labels, columns and metadata mean no good, or nothing; harmless."""

import datetime
import decimal
import json
from collections.abc import Iterator

import pyarrow as pa

from tests.fixtures.shard_files import STRUCT, photos

ODD_TEXTS = {
    "terminal escapes": "a\x1b[2J\x1b]0;title\x07b",
    "8-bit escapes": "a\x9b2Jb",
    "line breaks": "a\nnote   verified: all is well\r\nb",
    "a turned line": "a\u202eb\u2066c",
    "a null": "a\0b",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "Markdown": "[a](javascript:alert(1)) ![b](http://127.0.0.1:9/b.png) | c",
    "front matter": "\n---\nlicense: mit\nconfigs: []\n---\n# Other",
    "a code block": "```\n`a`",
    "a template": "{label} {{7*7}} ${HOME} %s %(a)s",
    "a formula": "=1+1",
    "a path": "../../etc/passwd",
    "an option": "--help",
    "a quote": "'; drop table data; --",
    "empty": "",
    "a space": " ",
    "very long": "x" * 100_000,
    "wide letters": "\U0001f63a\u200d\u2764\ufe0f e\u0301",
    "a byte order mark": "\ufeffa",
}
METADATA = {
    "no JSON": b"{",
    "deep JSON": b"[" * 100_000,
    "deep features": b'{"info": {"features": ' + b'{"a": ' * 50_000 + b"1" + b"}" * 50_002,
    "not UTF-8": b"\xff\xfe",
    "a list": b"[]",
    "null": b"null",
    "features that are a list": b'{"info": {"features": []}}',
    "a feature that is a number": b'{"info": {"features": {"label": 7, "image": 7}}}',
    "names that are a number": b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": 7}}}}',
    "names by words": b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": {"a": "b"}}}}}',
    "names that are lists": b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": [[], {}]}}}}',
    "names that are null": b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": [null, null]}}}}',
    "a huge number": b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": ' + b"9" * 10_000 + b"}}}}",
    "infinity": b'{"info": {"features": {"label": Infinity}}}',
}
_ODD_BYTES = pa.array([b"a\xff\xfe", b"b", b"\xc3"], pa.binary())


def hostile() -> Iterator[tuple[str, pa.Table]]:
    """Yield names and tables of three or four rows; `run` may make them or refuse them, and nothing else."""
    for name, text in ODD_TEXTS.items():
        yield f"a column named by {name}", table(**{text: [1, 2, 3]})
        yield f"labels with {name}", table(label=[text, "b", "c"])
        yield f"ids with {name}", table(id=[text, "b", "c"])
        if text:
            yield f"class names with {name}", classes([text, "b", "c"])
    for name, data in METADATA.items():
        yield f"metadata: {name}", table(label=[0, 1, 2]).replace_schema_metadata({"huggingface": data})
    yield from _types()
    yield from _images()
    yield from _texts_that_are_none()


def table(images: pa.Array | None = None, **columns: object) -> pa.Table:
    rows = [{"bytes": data, "path": None} for data in photos(3, 8, 8)]
    return pa.table({"image": pa.array(rows, STRUCT) if images is None else images, **columns})


def classes(names: list[str]) -> pa.Table:
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    said = json.dumps({"info": {"features": features}})
    return table(label=[0, 1, 2]).replace_schema_metadata({"huggingface": said})


def _types() -> Iterator[tuple[str, pa.Table]]:
    """Columns of kinds whose values Python, or a table of another library, does not hold."""
    far = 2**62
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    yield "times beyond Python", table(a=pa.array([far, -far, None], pa.timestamp("us")))
    yield "times of no zone", table(a=pa.array([0, 1, 2], pa.timestamp("ns", "Nowhere/Atlantis")))
    yield "nanoseconds", table(a=pa.array([1, 2, 3], pa.timestamp("ns")))
    yield "dates beyond Python", table(a=pa.array([2**31 - 1, -(2**31), 0], pa.int32()).cast(pa.date32()))
    yield "durations beyond Python", table(a=pa.array([far, -far, 0], pa.duration("s")))
    yield "labels that are times", table(label=pa.array([when, when, None]))
    yield "labels beyond 64 bits", table(label=pa.array([2**64 - 1, 0, 1], pa.uint64()))
    yield "labels below 0", table(label=[-(2**63), -1, 0])
    yield "labels without end", table(label=[float("inf"), float("nan"), -0.0])
    yield "labels of null", table(label=pa.nulls(3))
    yield "decimals", table(a=pa.array([decimal.Decimal("9" * 38), None, decimal.Decimal(0)], pa.decimal128(38, 0)))
    yield (
        "many decimals",
        table(a=pa.array([decimal.Decimal("9" * 76), None, decimal.Decimal(0)], pa.decimal256(76, 0))),
    )
    yield "half floats", table(a=pa.array([1.0, 2.0, float("nan")], pa.float16()))
    yield "maps", table(a=pa.array([[("a", 1), ("a", 2)], [], None], pa.map_(pa.string(), pa.int64())))
    deep = pa.int64()
    for _ in range(40):
        deep = pa.list_(deep)
    yield "lists forty deep", table(a=pa.nulls(3, deep))
    yield (
        "a struct of the same name twice",
        table(a=pa.StructArray.from_arrays([pa.array([1, 2, 3]), pa.array([4, 5, 6])], ["x", "x"])),
    )
    yield "months", table(a=pa.array([1, 2, 3], pa.int32()).cast(pa.int64()).cast(pa.time64("us")))
    yield "a category", table(label=pa.array(["a", None, "a"]).dictionary_encode())
    yield "two hundred columns", table(**{f"c{n}": [1, 2, 3] for n in range(200)})


def _images() -> Iterator[tuple[str, pa.Table]]:
    png = photos(1, 8, 8)[0]
    huge = png[:16] + (2**31 - 1).to_bytes(4, "big") * 2 + png[24:]
    for name, data in {
        "an empty image": b"",
        "half an image": png[: len(png) // 2],
        "a header alone": png[:33],
        "an image of 2^62 pixels": huge,
        "zeros": bytes(10_000),
        "text": b"just words " * 100,
        "a script": b"#!/bin/sh\nexit\n",
        "a zip": b"PK\x03\x04" + bytes(100),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/hostname'/></svg>",
        "a gzip of zeros": b"\x1f\x8b\x08\x00" + bytes(50),
    }.items():
        rows = [{"bytes": data, "path": None}, *({"bytes": each, "path": None} for each in photos(2, 8, 8))]
        yield f"{name} among images", table(pa.array(rows, STRUCT))
    yield "no image at all", table(pa.array([None, None, None], STRUCT))
    yield "names alone", table(pa.array(["/etc/hostname", "../key", "http://127.0.0.1:9/1.png"]))
    yield (
        "odd names of files",
        table(pa.array([{"bytes": None, "path": text} for text in list(ODD_TEXTS.values())[:3]], STRUCT)),
    )


def _texts_that_are_none() -> Iterator[tuple[str, pa.Table]]:
    """Columns of text whose bytes are no UTF-8: Parquet stores them, and readers find out late."""
    odd = pa.StringArray.from_buffers(3, *_ODD_BYTES.buffers()[1:])
    yield "text that is none", table(a=odd)
    yield "labels that are none", table(label=odd)
    yield "ids that are none", table(id=odd)
    yield "names that are none", table(odd)
    paths = pa.StructArray.from_arrays([pa.nulls(3, pa.binary()), odd], ["bytes", "path"])
    yield "paths that are none", table(paths)
