"""The report as one self-contained HTML page: counts and scores first, then a contact sheet a branch."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.messages import printable
from schemas.manifest import Counts, Manifest

STYLE = """
:root { --ink: #1c1b19; --soft: #6f6a60; --line: #e4dfd4; --paper: #fbf9f4; --card: #fff; --accent: #9a3b1f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ece7dc; --soft: #a39c8d; --line: #3a362f; --paper: #1b1916; --card: #24211d; --accent: #e08a63; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 Georgia, "Times New Roman", serif; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 28px 80px; }
h1 { font-size: 34px; font-weight: 400; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 23px; font-weight: 400; margin: 48px 0 2px; }
p.soft, .soft { color: var(--soft); margin: 0 0 16px; }
code, .caption, table { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace; font-size: 12.5px; }
table { border-collapse: collapse; margin: 18px 0; width: 100%; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
th { font-weight: 600; color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(var(--card-width), 1fr)); gap: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 12px 14px 10px; }
.card h3 { font-size: 15px; font-weight: 600; margin: 0 0 8px; }
.line { display: flex; flex-wrap: wrap; gap: 8px; align-items: flex-start; margin-bottom: 8px; }
figure { margin: 0; position: relative; width: var(--tile); }
figure img.image { width: var(--tile); height: auto; display: block; border-radius: 3px; background: var(--line); }
figure.small img.image { image-rendering: pixelated; }
figure img.inset { position: absolute; right: 4px; top: 4px; width: 26px; height: 26px; object-fit: cover;
  border: 1.5px solid #fff; border-radius: 3px; }
figure.source { border-right: 2px solid var(--accent); padding-right: 8px; width: calc(var(--tile) + 10px); }
.caption { color: var(--soft); font-size: 10.5px; line-height: 1.4; }
.source .caption { color: var(--accent); }
.missing { width: var(--tile); height: var(--tile); display: grid; place-items: center; border: 1px dashed var(--line); }
.state { color: var(--accent); }
"""


@dataclass(frozen=True)
class Tile:
    """One picture: bytes and media type (None: not there), a caption below, details on hover, a small inset."""

    image: tuple[bytes, str] | None
    caption: str
    detail: str
    inset: tuple[bytes, str] | None = None
    source: bool = False


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


@dataclass(frozen=True)
class GateLine:
    """One gate of one branch: images it refused, and lowest, median and highest score of those and of kept ones."""

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
    state = "complete" if manifest.complete else f"incomplete: {manifest.counts.units} of {manifest.units} units"
    counts = manifest.counts
    body = [
        "<h1>Palimpsest report</h1>",
        f'<p class="soft">{counts.accepted:,} images; <span class="state">{state}</span>; '
        f"seed {_text(str(manifest.recipe['seed']))}, plan <code>{_text(manifest.plan_digest[:12])}</code>, "
        f"version {_text(manifest.palimpsest)}</p>",
        _counts(manifest),
        *([_gates(manifest, gates)] if gates else []),
        *(_reasons(title, reasons) for title, reasons in troubles.items() if reasons),
        *(_sheet(sheet) for sheet in sheets),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Palimpsest report</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>\n" + "\n".join(body) + "\n</main></body></html>\n"
    )


def _text(text: str) -> str:
    """Return text of others for the page: no markup, no control characters, no turning of the line."""
    return html.escape(printable(text))


def _counts(manifest: Manifest) -> str:
    rows = [_count_row(name, _chain(manifest, name), counts) for name, counts in manifest.branches.items()]
    rows.append(_count_row("all", "", manifest.counts))
    head = "".join(
        f"<th>{name}</th>" for name in ("branch", "operators", "asked", "accepted", "rejected", "rows quarantined")
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _count_row(name: str, chain: str, counts: Counts) -> str:
    numbers = (counts.asked, counts.accepted, counts.rejected, counts.quarantined)
    cells = "".join(f"<td>{number:,}</td>" for number in numbers)
    return f"<tr><td>{_text(name)}</td><td>{_text(chain)}</td>{cells}</tr>"


def _chain(manifest: Manifest, branch: str) -> str:
    for chain in manifest.chains:
        if chain["name"] == branch:
            return " → ".join(step["operator"] for step in chain["steps"]) or "the source rows, byte for byte"
    return ""


def _gates(manifest: Manifest, gates: Sequence[GateLine]) -> str:
    head = "".join(
        f"<th>{name}</th>"
        for name in ("branch", "gate", "refused", "scores refused (least, median, most)", "scores kept, of a sample")
    )
    rows = "".join(
        f"<tr><td>{_text(line.branch)}</td><td>{_text(line.gate)}</td><td>{line.refused:,}</td>"
        f"<td>{_scores(line.refused_scores)}</td><td>{_scores(line.kept_scores)}</td></tr>"
        for line in gates
    )
    retried = manifest.counts.retried
    made = (
        f'<p class="soft">{retried:,} refused images were made again; they are in rejected/, too</p>' if retried else ""
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{made}"


def _scores(scores: tuple[float, float, float] | None) -> str:
    return "" if scores is None else " · ".join(f"{score:.3g}" for score in scores)


def _reasons(title: str, reasons: Mapping[str, int]) -> str:
    listed = ", ".join(f"<code>{_text(reason)}</code> {count:,}" for reason, count in reasons.items())
    return f'<p class="soft">{title}: {listed}</p>'


def _sheet(sheet: Sheet) -> str:
    longest = max((len(line) for card in sheet.cards for line in card.lines), default=1)
    few = longest <= 4
    tile = 96 if few else 72
    width = min(1120, min(longest, 8) * (tile + 8) + 46) if few else 1120
    cards = "".join(_card(card) for card in sheet.cards)
    return (
        f'<section style="--tile: {tile}px; --card-width: {width}px"><h2>{_text(sheet.branch)}</h2>'
        f'<p class="soft">{_text(sheet.chain)}</p><div class="cards">{cards}</div></section>'
    )


def _card(card: Card) -> str:
    lines = "".join(f'<div class="line">{"".join(_tile(tile) for tile in line)}</div>' for line in card.lines)
    title = f"<h3>{_text(card.title)}</h3>" if card.title else ""
    return f'<div class="card">{title}{lines}</div>'


def _tile(tile: Tile) -> str:
    kinds = ["source"] if tile.source else []
    if tile.image is None:
        picture = '<div class="missing caption">not there</div>'
    else:
        picture = f'<img class="image" alt="{_text(tile.caption)}" src="{_data_uri(tile.image)}">'
        kinds += ["small"] if tile.image[1] == "image/png" else []
    inset = f'<img class="inset" alt="style" src="{_data_uri(tile.inset)}">' if tile.inset else ""
    caption = _text(f"source {tile.caption}" if tile.source else tile.caption)
    return (
        f'<figure class="{" ".join(kinds)}" title="{_text(tile.detail)}">{picture}{inset}'
        f'<figcaption class="caption">{caption}</figcaption></figure>'
    )


def _data_uri(image: tuple[bytes, str]) -> str:
    return f"data:{_text(image[1])};base64,{base64.b64encode(image[0]).decode()}"
