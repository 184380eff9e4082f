"""The classes that a model was trained on, read from its files for `plan`, which loads no network. No torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.model_files.folders import CONFIG_FILE, INDEX_FILE, read_json
from pipeline.model_files.references import FileRef, planned_model_path

CLASS_PIPELINES: Final = ("DiTPipeline", "DDPMPipeline", "DDIMPipeline")
LATENT_PIPELINE: Final = "DiTPipeline"
_DIT_CLASSES: Final = 1000  # what diffusers takes where a DiT's config says nothing
_MAX_HEADER_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class KnownClasses:
    """A model's condition: a text, or one of `count` classes, with their `names` where its files hold them.

    `none`: the index of the null class of classifier-free guidance; None where it has none, or where `count` is 0.
    """

    takes_text: bool = False
    count: int = 0
    names: tuple[str, ...] = ()
    none: int | None = None


def known_classes(model: FileRef) -> KnownClasses | None:
    """Return the classes of a planned model; None where its files do not say, or are not on this machine."""
    place = planned_model_path(model)
    if place is None:
        return None
    if not place.is_dir():
        return _read_file(place)
    if not is_class_model(place):
        return KnownClasses(takes_text=True) if (place / INDEX_FILE).is_file() else None
    index, network = read_json(place / INDEX_FILE), class_network(place)
    latent = index.get("_class_name") == LATENT_PIPELINE
    config = read_json((place / "transformer" if network is None else network) / CONFIG_FILE)
    said = config.get("num_embeds_ada_norm", _DIT_CLASSES) if latent else config.get("num_class_embeds")
    try:
        return folder_classes(index, int(said or 0), latent)
    except (TypeError, ValueError):  # keys of `id2label` that are no numbers: `load` says so
        return None


def is_class_model(folder: str | Path) -> bool:
    """Whether a folder holds a DiT pipeline, or a plain UNet2DModel with its scheduler."""
    index = read_json(Path(folder, INDEX_FILE)).get("_class_name")
    return index in CLASS_PIPELINES or (index is None and class_network(folder) is not None)


def class_network(folder: str | Path) -> Path | None:
    """The folder of the UNet2DModel in a model's folder; None where there is none."""
    for place in (Path(folder, "unet"), Path(folder)):
        if read_json(place / CONFIG_FILE).get("_class_name") == "UNet2DModel":
            return place
    return None


def folder_classes(index: Mapping[str, Any], embeddings: int, latent: bool) -> KnownClasses:
    """Return the classes of a class-conditional model in a folder.

    Args:
        index: its `model_index.json`, which may name the classes in `id2label`.
        embeddings: how many classes its network embeds; in pixel space, one more than the names is the null class.
        latent: a DiT, which has one more for no class.
    """
    named = index.get("id2label")
    names = {int(key): str(name) for key, name in named.items()} if isinstance(named, dict) else {}
    count, none = embeddings, embeddings if latent else None
    if not latent and names and len(names) == count - 1:
        count = none = len(names)
    ordered = tuple(names[key] for key in sorted(names)) if len(names) == count else ()
    return KnownClasses(count=count, names=ordered, none=none)


def _read_file(path: Path) -> KnownClasses | None:
    """Return the classes in the metadata of a safetensors file made by this package."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MAX_HEADER_BYTES:
                return None
            metadata = json.loads(file.read(length))["__metadata__"]
        names, numbers = json.loads(metadata["classes"]), json.loads(metadata["numbers"])
        count = int(numbers["classes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return KnownClasses(count=count, names=tuple(str(name) for name in names), none=count)
