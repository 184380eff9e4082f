"""Models of the Hugging Face hub: an id and a revision become one commit, and its files a local folder.

Only what a model reads is fetched (`folders.read_files`): safetensors and text, never a pickle, never code.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.messages import one_line
from pipeline.model_files.folders import read_files

SCHEME = "hub:"
ID = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
SECONDS = 20.0  # to wait for an answer


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit, and the local folder that holds its files."""

    repository: str
    commit: str
    folder: Path

    @property
    def uri(self) -> str:
        return f"{SCHEME}{self.repository}@{self.commit}"


def is_hub_id(reference: str) -> bool:
    """Whether a reference reads as `organisation/name`, with `@revision` or without."""
    return ID.fullmatch(reference) is not None


def fetch(reference: str) -> Snapshot:
    """The files of `organisation/name@revision` (a branch, a tag or a commit; `main` if left out) in the local cache.

    The hub says which commit the revision is now; where it cannot be reached, the cache does, if it has the model.

    Raises:
        ModelError: one line: it is neither there nor here.
    """
    from huggingface_hub import HfApi, snapshot_download

    repository, revision = _parts(reference)
    try:
        found = HfApi().model_info(repository, revision=revision, timeout=SECONDS)
        wanted = read_files(file.rfilename for file in found.siblings or ())
        folder = snapshot_download(repository, revision=found.sha, allow_patterns=wanted)
    except Exception as error:  # the client raises errors of its own, of its HTTP library and of the system
        here = cached(reference)
        if here is None:
            reason = one_line(error, 200)
            raise ModelError(
                f"model {reference!r}: there is no such file or folder, and as a hub id it cannot be had: "
                f"{type(error).__name__}: {reason}"
            ) from None
        return here
    return Snapshot(repository, Path(folder).name, Path(folder))


def cached(reference: str) -> Snapshot | None:
    """What the local cache holds of `organisation/name@revision`; None where that is nothing. Asks no network."""
    from huggingface_hub import snapshot_download

    repository, revision = _parts(reference)
    try:
        folder = snapshot_download(repository, revision=revision, local_files_only=True)
    except (OSError, ValueError):
        return None
    return Snapshot(repository, Path(folder).name, Path(folder))


def _parts(reference: str) -> tuple[str, str]:
    matched = ID.fullmatch(reference)
    if matched is None:
        raise ModelError(f"model {reference!r}: not a hub id; write organisation/name or organisation/name@revision")
    return matched["repository"], matched["revision"] or "main"
