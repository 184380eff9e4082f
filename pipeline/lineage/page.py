"""The report as one self-contained HTML page: counts and scores first, then a contact sheet a branch."""

import base64
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.messages import printable
from schemas.manifest import Manifest

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Tile:
    """One picture: bytes and media type (None: not there), a caption below, details on hover, a small inset."""

    image: tuple[bytes, str] | None
    caption: str
    detail: str
    inset: tuple[bytes, str] | None = None
    source: bool = False

    @property
    def kinds(self) -> list[str]:
        """Classes of the style sheet: `source` has a rule beside it, `small` shows its pixels."""
        small = self.image is not None and self.image[1] == "image/png"
        return ["source"] * self.source + ["small"] * small


@dataclass(frozen=True)
class Card:
    """One class: lines of a source and what was made from it."""

    title: str
    lines: Sequence[Sequence[Tile]]


@dataclass(frozen=True)
class Sheet:
    """One branch."""

    branch: str
    chain: str
    cards: Sequence[Card]

    @property
    def tile_px(self) -> int:
        """Width of a tile: larger where lines are short."""
        return 96 if self._longest <= 4 else 72

    @property
    def card_px(self) -> int:
        """Least width of a card: as wide as its longest line, where that is short."""
        return self._longest * (self.tile_px + 8) + 46 if self._longest <= 4 else 1120

    @property
    def _longest(self) -> int:
        return max((len(line) for card in self.cards for line in card.lines), default=1)


@dataclass(frozen=True)
class GateLine:
    """One gate of one branch: images it refused for good, and the least, median and most of some of its scores."""

    branch: str
    gate: str
    refused: int
    refused_scores: tuple[float, float, float] | None
    kept_scores: tuple[float, float, float] | None


def page(
    manifest: Manifest,
    sheets: Sequence[Sheet],
    troubles: Mapping[str, Mapping[str, int]],
    gates: Sequence[GateLine] = (),
) -> str:
    """Return the whole page.

    Args:
        troubles: counts by reason, for `rejected` and `quarantined`.
    """
    return template().render(manifest=manifest, chains=_chains(manifest), sheets=sheets, troubles=troubles, gates=gates)


@functools.cache
def template() -> "jinja2.Template":
    """Return the page's template, compiled once in a process."""
    import jinja2  # what only a report needs

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("report.html")


def _shown(value: object) -> object:
    """Return a value from shards or recipes as safe text: no control characters, no marks of text direction."""
    return printable(value) if type(value) is str else value


def _chains(manifest: Manifest) -> dict[str, str]:
    """Return the operators of each branch as one text."""
    return {
        chain["name"]: " → ".join(step["operator"] for step in chain["steps"]) or "the source rows, byte for byte"
        for chain in manifest.chains
    }


def _data_uri(image: tuple[bytes, str]) -> str:
    return f"data:{image[1]};base64,{base64.b64encode(image[0]).decode()}"
