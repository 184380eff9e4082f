"""The identity of a model that is a folder: one sha256 over the names and contents of the files a pipeline reads."""

import hashlib
from pathlib import Path

from pipeline.errors import ModelError

INDEX_FILE = "model_index.json"
READ_SUFFIXES = (".json", ".jinja", ".model", ".safetensors", ".txt")


def is_pipeline_folder(path: str | Path) -> bool:
    """Whether a diffusers pipeline lies there."""
    return Path(path, INDEX_FILE).is_file()


def folder_sha256(path: str | Path) -> str:
    """Hex sha256 of a pipeline folder: of each file it reads, in the order of names, the name and the content's sha256.

    Raises ModelError where there is no `model_index.json`, or no weights as safetensors.
    """
    if not is_pipeline_folder(path):
        raise ModelError(f"model {path}: no diffusers pipeline; there is no {INDEX_FILE} in it")
    files = sorted(file for file in Path(path).rglob("*") if file.suffix in READ_SUFFIXES and file.is_file())
    if not any(file.suffix == ".safetensors" for file in files):
        raise ModelError(f"model {path}: no .safetensors file in it; other weight files are not safe to load")
    whole = hashlib.sha256()
    for file in files:
        with open(file, "rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        whole.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()
