"""Where a data set is stored: a local folder, or an object store through fsspec, behind one interface."""

from pathlib import Path

import fsspec

from pipeline.errors import InputError
from pipeline.messages import error_line
from pipeline.shards.output.abstract_store import Store
from pipeline.shards.output.local_store import LocalStore
from pipeline.shards.output.object_store import ObjectStore
from pipeline.shards.output.storage_errors import ELSEWHERE

__all__ = ["LocalStore", "ObjectStore", "Store", "open_store"]


def open_store(uri: str) -> Store:
    """Return the store at `uri`.

    Raises:
        InputError: the protocol is unknown or its package is not installed.
    """
    if "://" not in uri:
        return LocalStore(Path(uri))
    if uri.startswith("file://"):
        return LocalStore(Path(uri.removeprefix("file://")))
    try:
        filesystem, root = fsspec.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise InputError(f"{uri}: {error}") from None
    except Exception as error:  # some ask their server at once, some need more than a URI
        raise InputError(f"{uri}: cannot be opened: {error_line(error)}; {ELSEWHERE}") from None
    return ObjectStore(uri, filesystem, root)
