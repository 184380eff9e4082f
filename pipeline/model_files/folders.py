"""The identity of a model that is a folder: one sha256 over the names and contents of the files a model reads.

Four kinds of folder hold a model: a pipeline (`model_index.json`), one network (`config.json` of a diffusers class or
of a transformers model, such as CLIP), and a network with its scheduler (`unet/config.json`,
`scheduler/scheduler_config.json`).
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import ModelError

INDEX_FILE = "model_index.json"
CONFIG_FILE = "config.json"
READ_SUFFIXES = (".json", ".jinja", ".model", ".safetensors", ".txt")
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|non_ema)[.-]")  # weights a second time, in another precision


def is_model_folder(path: str | Path) -> bool:
    """Whether a diffusers or transformers model lies there."""
    folder = Path(path)
    if (folder / INDEX_FILE).is_file() or (folder / "unet" / CONFIG_FILE).is_file():
        return True
    return not {"_class_name", "model_type"}.isdisjoint(read_json(folder / CONFIG_FILE))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no such file, or no object in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_files(names: Iterable[str]) -> list[str]:
    """Those of a folder's files, as POSIX paths, that a model reads, sorted: no pickle, no code, no weights twice.

    Weights in another precision are left out, and, beside a pipeline's own folders, single-file copies of it.
    """
    known = [name for name in names if name.endswith(READ_SUFFIXES) and not _VARIANT.search(PurePosixPath(name).name)]
    hidden = {name for name in known if any(part.startswith(".") for part in PurePosixPath(name).parts)}
    known = [name for name in known if name not in hidden]
    inner = INDEX_FILE in known and any("/" in name and name.endswith(".safetensors") for name in known)
    return sorted(name for name in known if not (inner and "/" not in name and name.endswith(".safetensors")))


def folder_sha256(path: str | Path) -> str:
    """Hex sha256 of a model folder: of each file it reads, in the order of names, the name and the content's sha256.

    Raises ModelError where there is no model, or no weights as safetensors.
    """
    if not is_model_folder(path):
        raise ModelError(f"model {path}: no diffusers model; there is no {INDEX_FILE} in it")
    files = read_files(file.relative_to(path).as_posix() for file in Path(path).rglob("*") if file.is_file())
    if not any(name.endswith(".safetensors") for name in files):
        raise ModelError(f"model {path}: no .safetensors file in it; other weight files are not safe to load")
    whole = hashlib.sha256()
    for name in files:
        with open(Path(path, name), "rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        whole.update(f"{name}\0{content}\n".encode())
    return whole.hexdigest()
