"""Which files are Parquet by their names, and how shards are made of those that hold something else."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

_SHARD: Final = re.compile(
    r"\.(parquet|parq|pq)(\.(gz|gzip|snappy|snap|zst|zstd|lz4|lzo|br|brotli|bz2|xz|uncompressed|none))?$", re.IGNORECASE
)
_WRAPPED: Final = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\x00", "xz", "unxz"),
)
_KINDS: Final = (
    ("images", r"\.(jpe?g|jpe|png|webp|gif|bmp|tiff?|tga|ppm|pgm|ico|avif|heic|jp2|jxl)$"),
    ("csv", r"\.(csv|tsv)(\.(gz|zst|bz2|xz))?$"),
    ("webdataset", r"\.(tar|tar\.gz|tgz)$"),
    ("json", r"\.(jsonl|ndjson|json)(\.(gz|zst|bz2|xz))?$"),
    ("arrow", r"\.(arrow|feather|ipc)$"),
    ("zip", r"\.(zip|7z|rar)$"),
    ("tfrecord", r"\.(tfrecords?|tfrecord-\d+-of-\d+)$"),
    ("numpy", r"\.(npy|npz|pkl|pt|h5|hdf5|mat|lmdb|mdb)$"),
)
_LOAD: Final = (
    'python -c "from datasets import load_dataset as l; '
    "l('{kind}', {files}, split='train').to_parquet('{to}.parquet')\""
)
_EMBED: Final = (  # `to_parquet` alone would store the paths of the images
    'python -c "from datasets import load_dataset as l; from datasets.table import embed_table_storage as e; '
    "l('imagefolder', data_dir='.', split='train').with_format('arrow').map(e, batched=True)"
    ".to_parquet('all.parquet')\""
)
_ARROW: Final = "python -c \"from datasets import Dataset as d; d.from_file('{file}').to_parquet('{to}.parquet')\""


def is_shard_name(name: str) -> bool:
    """Return whether a file is a shard by its name: `.parquet`, `.parq` or `.pq` in any case, a codec's name behind."""
    return _SHARD.search(name) is not None


def kind_of(name: str) -> str | None:
    """Return what a file holds by its name: `images`, `csv`, `webdataset`, `json`, `arrow`, ...; None: unknown."""
    return next((kind for kind, names in _KINDS if re.search(names, name, re.IGNORECASE)), None)


def unwrap(head: bytes, name: str) -> str | None:
    """Return what to do with a file that is a compressed one by its first bytes; None where it is none."""
    for magic, called, command in _WRAPPED:
        if head.startswith(magic):
            return (
                f"the whole file is compressed with {called}, and Parquet compresses inside: unpack it with "
                f"`{command} {name.rpartition('/')[2]}`"
            )
    return None


def advice(names: Iterable[str], folder: str | None) -> str | None:
    """Return, in one line, how to make Parquet shards of files that are none; None where nothing is known of them.

    Args:
        names: the files, as the recipe or the folder names them.
        folder: the folder that they were found in; None where the recipe names one file.
    """
    found = Counter[str]()
    first: dict[str, str] = {}
    for name in names:
        kind = kind_of(name)
        if kind is not None:
            found[kind] += 1
            first.setdefault(kind, name)
    if not found:
        return None
    kind = found.most_common(1)[0][0]
    return _remedy(kind, first[kind], folder)


def _remedy(kind: str, path: str, folder: str | None) -> str:
    file = path.rpartition("/")[2]
    stem = re.sub(r"(\.[a-z0-9]+){1,2}$", "", file, flags=re.IGNORECASE)
    if kind == "images":
        return f"images; make a shard of them, in their folder: {_EMBED}"
    if kind == "arrow":
        return f"an Arrow file; make a shard of it, in its folder: {_ARROW.format(file=file, to=stem)}"
    if kind == "zip":
        return f"an archive; unpack {file} and give its folder"
    if kind == "tfrecord":
        return "TFRecord files; make shards of them: read them with tensorflow_datasets, and `to_parquet` the result"
    if kind == "numpy":
        return "arrays or pickled files; make shards of them: encode each image (PNG) and write it with pyarrow"
    called = {"csv": "CSV", "json": "JSON", "webdataset": "tar archives"}[kind]
    files, to = (f"data_files='{file}'", stem) if folder is None else ("data_dir='.'", "all")
    return f"{called}; make a shard of it, in its folder: {_LOAD.format(kind=kind, files=files, to=to)}"
