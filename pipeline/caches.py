"""The folder of this node where what was fetched, computed or hashed is kept: whatever is in it can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder that `PALIMPSEST_CACHE` names; otherwise it is `~/.cache/palimpsest`."""
    return Path(os.environ.get("PALIMPSEST_CACHE", Path.home() / ".cache" / "palimpsest"))
