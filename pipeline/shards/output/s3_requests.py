"""Requests to S3 that fsspec has no call for: one page of a listing, and many removals whose errors are told.

s3fs lists a folder as one list of dicts, about 1.5 KB a file, and says nothing of files that it could not remove.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_KEYS: Final = 1000
"""Most keys of one listing, and of one removal in bulk."""


@dataclass(frozen=True)
class Page:
    """Files of one listing: (bucket/key, size in bytes), and the token of the next page; None for the last."""

    files: list[tuple[str, int]]
    next_token: str | None


def is_s3(filesystem: Any) -> bool:
    """Return whether a file system is that of s3fs."""
    return hasattr(filesystem, "call_s3")


def list_page(filesystem: Any, folder: str, token: str | None) -> Page:
    """Return one page of the files below `folder` (bucket/key)."""
    bucket, key, _ = filesystem.split_path(folder)
    prefix = key.rstrip("/") + "/" if key.rstrip("/") else ""
    more = {} if token is None else {"ContinuationToken": token}
    found = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=MAX_KEYS, **more)
    files = [(f"{bucket}/{each['Key']}", int(each["Size"])) for each in found.get("Contents", ())]
    return Page(files, found.get("NextContinuationToken") if found.get("IsTruncated") else None)


def size(filesystem: Any, file: str) -> int:
    """Return the size of a file in bytes by one request; s3fs also asks whether it may be a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    bucket, key, _ = filesystem.split_path(file)
    return int(filesystem.call_s3("head_object", Bucket=bucket, Key=key)["ContentLength"])


def says_exists(error: Exception) -> bool:
    """Return whether the error of a conditional creation says that the file exists.

    s3fs raises FileExistsError only where the answer also names the condition, as that of AWS does and others do not.
    """
    answer = getattr(error.__cause__, "response", None)
    return isinstance(answer, dict) and answer.get("Error", {}).get("Code") in ("PreconditionFailed", "412")


def delete(filesystem: Any, files: Sequence[str]) -> None:
    """Remove at most MAX_KEYS files of one bucket; those that are not there are no error.

    Raises:
        OSError: some could not be removed; PermissionError where that is why.
    """
    bucket = filesystem.split_path(files[0])[0]
    keys = [{"Key": filesystem.split_path(file)[1]} for file in files]
    answer = filesystem.call_s3("delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    errors = [each for each in answer.get("Errors", ()) if each.get("Code") != "NoSuchKey"]
    if errors:
        kind = PermissionError if errors[0].get("Code") == "AccessDenied" else OSError
        said = f"{errors[0].get('Key')}: {errors[0].get('Code')}: {errors[0].get('Message')}"
        raise kind(f"{len(errors)} of {len(files)} files cannot be removed: {said}")
