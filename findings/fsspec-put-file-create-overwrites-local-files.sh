#!/usr/bin/env bash
# fsspec 2026.9.0 (seen 2026-11-27).
#
# `mode="create"` asks a file system to write only what is not there. `put_file` of the local file system takes the word
# and overwrites: no error, the other content is gone. `pipe_file` of the same file system, and `put_file` of the memory
# file system, raise FileExistsError.
# Who is hurt: writers that commit a part by creating it once, tested in memory or on S3 and then run on a shared disk:
# two of them both win, and the second one's file stays. Remedy: `pipe_file(..., mode="create")`, or `open(path, "xb")`.
#
# Output seen:
#   pipe_file: memory FileExistsError, local FileExistsError
#   put_file: memory FileExistsError, local written, b'first' is now b'second'
#   open xb: memory FileExistsError, local FileExistsError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet fsspec==2026.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
from pathlib import Path

import fsspec

Path("new").write_bytes(b"second")


def opened(system, path):
    with system.open(path, "xb") as file:
        file.write(b"second")


WAYS = {
    "pipe_file": lambda system, path: system.pipe_file(path, b"second", mode="create"),
    "put_file": lambda system, path: system.put_file("new", path, mode="create"),
    "open xb": opened,
}


def tried(name, way):
    system = fsspec.filesystem(name)
    path = str(Path("there").resolve()) if name == "local" else "/there"
    system.pipe_file(path, b"first")
    try:
        way(system, path)
    except FileExistsError as error:
        assert system.cat_file(path) == b"first"
        return type(error).__name__
    return f"written, b'first' is now {system.cat_file(path)}"


found = {said: [tried(name, way) for name in ("memory", "local")] for said, way in WAYS.items()}
for said, (memory, local) in found.items():
    print(f"{said}: memory {memory}, local {local}")
assert found["pipe_file"] == found["open xb"] == ["FileExistsError"] * 2
assert found["put_file"] == ["FileExistsError", "written, b'first' is now b'second'"]
PY
