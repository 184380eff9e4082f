"""From a reference in a recipe to a file with a sha256: `builtin:NAME`, a path, a hub id, a URI. Imports no torch."""

import functools
import hashlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import fsspec

from pipeline.caches import cache_folder
from pipeline.errors import InputError, ModelError
from pipeline.messages import one_line
from pipeline.model_files import hub
from pipeline.model_files.folders import folder_sha256, is_model_folder
from pipeline.working_dir import persistent_path

ASSETS = Path(__file__).resolve().parent.parent / "assets"
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
ROW_MARK = "#row="
"""In the `uri` of an image that is a row of a Parquet file, between the file's and the number of the row."""
MODEL_SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class FileRef:
    """A file that a step reads: the reference in the recipe, where it is, and its sha256."""

    reference: str
    uri: str
    sha256: str


def resolve_model(reference: str, base: str) -> FileRef:
    """Return the model file, or diffusers folder, that `reference` names.

    What is neither embedded nor a path that exists, and reads as one, is a hub id: `organisation/name@revision`. Its
    files are fetched here and now; the commit goes into the `uri`, so that every node works with the planned one.

    Args:
        base: folder that a relative path is relative to.

    Raises:
        ModelError: there is no such model, or not such a file.
    """
    if reference.startswith("builtin:"):
        name = reference.removeprefix("builtin:")
        path = ASSETS / "models" / f"{name}.safetensors"
        if not path.is_file():
            known = ", ".join(sorted(f"builtin:{p.stem}" for p in (ASSETS / "models").glob("*.safetensors")))
            raise ModelError(f"model {reference!r}: no embedded model has this name (known: {known or 'none'})")
        return FileRef(reference, reference, sha256_of(str(path)))
    if "://" in reference:
        return FileRef(reference, reference, sha256_of(reference))
    path = Path(base, reference)
    if path.is_dir():
        return FileRef(reference, persistent_path(str(path.resolve())), folder_sha256(path))
    if not path.exists() and path.suffix not in MODEL_SUFFIXES and hub.is_hub_id(reference):
        snapshot = hub.fetch(reference)
        return FileRef(reference, snapshot.uri, folder_sha256(snapshot.folder))
    if not path.is_file():
        raise ModelError(f"model {reference!r}: there is no such file")
    if path.suffix not in MODEL_SUFFIXES:
        raise ModelError(f"model {reference!r}: not a model file; expected one of {', '.join(MODEL_SUFFIXES)}")
    return FileRef(reference, persistent_path(str(path.resolve())), sha256_of(str(path.resolve())))


def row_of(uri: str) -> tuple[str, int | None]:
    """Return the file and the row that a reference image's `uri` names; None where the image is a file of its own."""
    file, mark, row = uri.rpartition(ROW_MARK)
    return (file, int(row)) if mark and row.isdecimal() else (uri, None)


def resolve_images(reference: str, base: str) -> tuple[FileRef, ...]:
    """Return the image files of a reference set, sorted by name: `builtin:styles`, a folder, a glob, one file, a URI.

    Raises:
        InputError: nothing is there.
    """
    if reference.startswith("builtin:"):
        folder = ASSETS / reference.removeprefix("builtin:")
        if not folder.is_dir():
            raise InputError(f"{reference!r}: no embedded image set has this name (known: builtin:styles)")
        found = [(f"{reference}/{path.name}", str(path)) for path in sorted(folder.iterdir()) if _is_image(path.name)]
    else:
        uri = reference if "://" in reference else str(Path(base, reference))
        try:
            found = [(path, path) for path in _list_images(uri)]
        except Exception as error:  # every object store and server brings its own errors
            raise InputError(f"{reference!r}: cannot be listed: {one_line(error)}") from None
    if not found:
        raise InputError(f"{reference!r}: no image file there ({', '.join(IMAGE_SUFFIXES)})")
    for _, path in found:
        if "://" not in path and not Path(path).is_file():  # a pipe would never end, and be opened by `plan`
            raise InputError(f"{reference!r}: {path} is no regular file; take it out of the set")
    return tuple(FileRef(reference, uri, sha256_of(path)) for uri, path in found)


def read_reference(ref: FileRef) -> bytes:
    """Return a reference image's bytes, from where it was found."""
    with fsspec.open(_path_of(ref.uri), "rb") as file:
        data: bytes = file.read()
    return data


def local_file(ref: FileRef) -> Path:
    """Return a local file, or diffusers folder, with the planned bytes; what is remote is fetched once a node.

    Raises:
        ModelError: the file is not there on this node, or its sha256 is not the planned one.
    """
    if ref.uri.startswith(hub.SCHEME):
        return _local_snapshot(ref)
    path = _fetch(ref) if "://" in ref.uri else Path(_path_of(ref.uri))
    if is_model_folder(path):
        found = folder_sha256(path)
    elif path.is_file():
        found = sha256_of(str(path))
    else:
        raise ModelError(
            f"model {ref.reference!r}: {path.name} is not on node {os.uname().nodename}; use a shared path"
        )
    if found != ref.sha256:
        raise ModelError(f"model {ref.reference!r}: the file changed since the run was planned")
    return path


def planned_model_path(ref: FileRef) -> Path | None:
    """Return where a planned model lies on this machine, its content not checked again; None where it does not."""
    if ref.uri.startswith(hub.SCHEME):
        here = hub.cached(ref.uri.removeprefix(hub.SCHEME))
        return None if here is None else here.folder
    path = Path(_path_of(ref.uri))
    return path if "://" not in ref.uri and path.exists() else None


def _local_snapshot(ref: FileRef) -> Path:
    commit = ref.uri.removeprefix(hub.SCHEME)
    here = hub.cached(commit)
    if here is not None and folder_sha256(here.folder) == ref.sha256:
        return here.folder
    folder = hub.fetch(commit).folder  # nothing here yet, or only a part
    if folder_sha256(folder) != ref.sha256:
        raise ModelError(f"model {ref.reference!r}: its files in the hub's cache are not the planned ones")
    return folder


def _path_of(uri: str) -> str:
    if not uri.startswith("builtin:"):
        return uri
    name = uri.removeprefix("builtin:")
    return str(ASSETS / name) if "/" in name else str(ASSETS / "models" / f"{name}.safetensors")


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _list_images(uri: str) -> Iterable[str]:
    filesystem, root = fsspec.url_to_fs(uri)
    if any(mark in root for mark in "*?["):
        paths = filesystem.glob(root)
    elif filesystem.isdir(root):
        paths = filesystem.ls(root, detail=False)
    else:
        paths = [root] if filesystem.exists(root) else []
    files = sorted(path for path in paths if _is_image(path.rsplit("/", 1)[-1]))
    return [filesystem.unstrip_protocol(path) if "://" in uri else persistent_path(path) for path in files]


def _fetch(ref: FileRef) -> Path:
    cache = cache_folder()
    target = cache / f"{ref.sha256}{Path(ref.uri).suffix}"
    if not target.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=cache)  # several actors of a node may fetch at once
        os.close(descriptor)
        filesystem, path = fsspec.url_to_fs(ref.uri)
        filesystem.get_file(path, partial)
        Path(partial).replace(target)
    return target


def sha256_of(uri: str) -> str:
    """Return the sha256 of a file's bytes, remembered for as long as a local file's size and time stay the same.

    Raises:
        ModelError: it cannot be read.
    """
    if "://" in uri:
        return _sha256(uri, (0, 0))
    status = Path(uri).stat()
    return _sha256(uri, (status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=4096)
def _sha256(uri: str, _stamp: tuple[int, int]) -> str:
    found = hashlib.sha256()
    try:
        with fsspec.open(uri, "rb") as file:
            while chunk := file.read(1 << 20):
                found.update(chunk)
    except Exception as error:  # every object store and server brings its own errors
        raise ModelError(f"{uri}: cannot be read: {one_line(error)}") from None
    return found.hexdigest()
