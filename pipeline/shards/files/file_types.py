"""Which files are Parquet by name, and advice on how to convert other files into Parquet shards."""

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
_CALLED: Final = {
    "images": "images, of classes by folder or by a metadata.csv with file_name",
    "csv": "CSV",
    "json": "JSON",
    "webdataset": "tar archives",
    "arrow": "Arrow files",
}
_FILE: Final = (  # at most 250 characters, like the next: what a message keeps of its end
    'python -c "from datasets import *; '
    "load_dataset('{kind}', data_files='{file}', split='train').to_parquet('{to}.parquet')\""
)
_FOLDER: Final = (  # `to_parquet` alone would store the paths of the images
    'python -c "from datasets import *; from datasets.table import *; '
    "d = {load}('$PWD').with_format('arrow').map(embed_table_storage, batched=True); {write}\""
)
_SPLITS: Final = "[d[s].to_parquet(s + '.parquet') for s in d]"
_SAVED: Final = ("state.json", "dataset_dict.json")  # beside what `save_to_disk` of `datasets` writes


def is_shard_name(name: str) -> bool:
    """Return whether a file is a shard by name: `.parquet`, `.parq`, `.pq` in any case, or `.parquet.gz` etc."""
    return _SHARD.search(name) is not None


def kind_of(name: str) -> str | None:
    """Return the type of a file by its name: `images`, `csv`, `webdataset`, `json`, `arrow`, ...; None if unknown."""
    return next((kind for kind, names in _KINDS if re.search(names, name, re.IGNORECASE)), None)


def unwrap(head: bytes, name: str) -> str | None:
    """Return how to decompress a file whose first bytes are those of gzip, zstd, ...; None if they are not."""
    for magic, called, command in _WRAPPED:
        if head.startswith(magic):
            return (
                f"the whole file is compressed with {called}, and Parquet compresses inside: unpack it with "
                f"`{command} {name.rpartition('/')[2]}`"
            )
    return None


def advice(names: Iterable[str], folder: str | None) -> str | None:
    """Return, in one line, how to convert files into Parquet shards; None if their type is unknown.

    Args:
        names: the files, as the recipe or the folder names them.
        folder: the folder that they were found in; None where the recipe names one file.
    """
    found = Counter[str]()
    first: dict[str, str] = {}
    saved: set[str] = set()
    for name in names:
        saved.update(file for file in _SAVED if name.rpartition("/")[2] == file)
        kind = kind_of(name)
        if kind is not None:
            found[kind] += 1
            first.setdefault(kind, name)
    if len(found) > 1:
        del found["json"]  # it describes the others
    if not found:
        return None
    kind = found.most_common(1)[0][0]
    if kind == "arrow" and saved:
        write = _SPLITS if "dataset_dict.json" in saved else "d.to_parquet('all.parquet')"
        return (
            f"Arrow files; make a shard of them, in their folder: {_FOLDER.format(load='load_from_disk', write=write)}"
        )
    return _remedy(kind, first[kind], folder)


def _remedy(kind: str, path: str, folder: str | None) -> str:
    file = path.rpartition("/")[2]
    stem = re.sub(r"(\.[a-z0-9]+){1,2}$", "", file, flags=re.IGNORECASE)
    if kind == "zip":
        return f"an archive; unpack {file} and give its folder"
    if kind == "tfrecord":
        return "TFRecord files; make shards of them: read them with tensorflow_datasets, and `to_parquet` the result"
    if kind == "numpy":
        return "arrays or pickled files; make shards of them: encode each image (PNG) and write it with pyarrow"
    called = _CALLED[kind]
    if kind != "images" and (folder is None or kind == "arrow"):
        files, to = (file, stem) if folder is None else (f"**/*.{file.rpartition('.')[2]}", "all")
        return f"{called}; make a shard of it, in its folder: {_FILE.format(kind=kind, file=files, to=to)}"
    return f"{called}; make shards of them, in their folder: {_FOLDER.format(load='load_dataset', write=_SPLITS)}"
