"""The cache folder of this node. Everything in it can be downloaded or computed again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder that `PALIMPSEST_CACHE` names; otherwise it is `~/.cache/palimpsest`."""
    return Path(os.environ.get("PALIMPSEST_CACHE", Path.home() / ".cache" / "palimpsest"))
