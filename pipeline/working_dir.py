"""Ray's unpacked copy of a submitted working directory: what may be read there, and what must not be kept there.

`ray job submit --working-dir .` packs a folder, names the package by its contents, unpacks it below its session's
folder on every node, runs the command there, and deletes it some time later.
Source: `ray/_private/runtime_env/working_dir.py` and `packaging.py` of Ray 2.60.
"""

import contextlib
import json
import os
from pathlib import Path

from pipeline.errors import JobError
from pipeline.watermark_key import KEY_VARIABLE

KEY_SUFFIX = ".key"
NOTE = ".palimpsest-keys-were-packed"
"""File left in a copy from which keys were removed, so that a further job of the same package is refused, too."""
_PARENT = ("runtime_resources", "working_dir_files")
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray hands to the command of a job


def working_dir_root(path: str | Path) -> Path | None:
    """Return the root of the unpacked copy that contains `path`; None if there is none. Relative paths start here."""
    parts = Path(path).resolve().parts
    for at in range(len(parts) - len(_PARENT)):
        if parts[at : at + len(_PARENT)] == _PARENT:
            return Path(*parts[: at + len(_PARENT) + 1])
    return None


def persistent_path(path: str) -> str:
    """Return a local path for the lineage: relative to the copy, if it is inside and this process runs at its root.

    The copy's own name changes with every file of the folder, and the copy is deleted; the relative path is that of the
    folder that was submitted, and opens the same file in every process of the job. Other paths are returned unchanged.
    """
    root = working_dir_root(path)
    if root is None or "://" in path or Path.cwd() != root:
        return path
    return os.path.relpath(path, root)


def require_persistent(uri: str, what: str, remedy: str) -> None:
    """Raise JobError if files at `uri` would be deleted with the copy, or are in the memory of this process.

    Args:
        what: how the user calls the place (`output.uri`).
        remedy: how to name another one.
    """
    if uri.startswith("memory://"):
        raise JobError(f"{what} {uri!r} is memory of one process and ends with it: give a folder or an object store")
    if "://" in uri and not uri.startswith("file://"):
        return
    path = uri.removeprefix("file://")
    root = working_dir_root(path)
    if root is not None:
        raise JobError(
            f"{what} {os.path.relpath(path, root)!r} lies in Ray's unpacked copy of the submitted working directory, "
            f"which Ray deletes: give an absolute path in a folder that all nodes share, or an object store, {remedy}"
        )


def refuse_packed_keys(key_file: str | None = None) -> None:
    """Refuse a key that was packed into the copy in which this process runs, and remove it from the copy.

    Args:
        key_file: the one that the command line names, whatever it is called.

    Raises:
        JobError: the key file or a `*.key` file is or was in the copy, or PALIMPSEST_KEY is in the job's runtime_env.
    """
    root = working_dir_root(Path.cwd())
    if root is None:
        return
    note = root / NOTE
    found = {*_keys_in(root)}
    if key_file is not None and working_dir_root(key_file) == root and Path(key_file).is_file():
        found.add(os.path.relpath(Path(key_file).resolve(), root))
    if found:
        with contextlib.suppress(OSError), note.open("a") as file:
            file.writelines(f"{name}\n" for name in sorted(found))
        for name in found:
            with contextlib.suppress(OSError):
                (root / name).unlink()
    names = sorted(set(note.read_text().splitlines())) if note.is_file() else sorted(found)
    if names:
        lines = sorted({f"*{KEY_SUFFIX}" if name.endswith(KEY_SUFFIX) else name for name in names})
        raise JobError(
            f"ray job submit has packed a key and sent it to the cluster ({', '.join(names[:3])}); this node's copy is "
            f"removed. Keep keys outside the folder, or put the line {' and '.join(lines[:3])} into its .rayignore (or "
            "into runtime_env.excludes), and make a new key if others use this cluster"
        )
    if KEY_VARIABLE in _environment_of_the_job():
        raise JobError(
            f"{KEY_VARIABLE} is in the job's runtime_env.env_vars, which Ray's head stores and its dashboard shows; "
            "set it on the node, or give --key-file with a path there"
        )


def _keys_in(root: Path) -> list[str]:
    return [
        os.path.relpath(Path(folder, name), root)
        for folder, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(KEY_SUFFIX)
    ]


def _environment_of_the_job() -> dict[str, str]:
    try:
        config = json.loads(os.environ.get(_JOB_CONFIG) or "{}")
        return dict(config["runtime_env"]["env_vars"])
    except (ValueError, KeyError, TypeError):
        return {}
