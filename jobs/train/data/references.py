"""References to models and images in a configuration, made absolute: workers have other working directories."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from pipeline.model_files.references import local_file, resolve_model


def absolute_reference(reference: str) -> str:
    """A reference that holds in any folder: a relative path becomes absolute; `builtin:NAME`, URIs and hub ids stay.

    A relative glob is a path; what is not there may be a hub id, and is left to `local_model`.
    """
    path = Path(reference)
    if reference.startswith("builtin:") or "://" in reference:
        return reference
    return str(path.absolute()) if path.exists() or any(mark in reference for mark in "*?[") else reference


Anywhere = Annotated[str, AfterValidator(absolute_reference)]
"""A reference in a configuration, made absolute by `absolute_reference`."""


def local_model(reference: str) -> Path:
    """The file, or diffusers folder, of a model: an embedded one, a path, a URI or a hub id, which is fetched.

    Raises ModelError where there is none.
    """
    return local_file(resolve_model(reference, str(Path.cwd())))
