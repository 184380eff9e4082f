"""Names that the field has a word for: the words that were replaced stand in no identifier, and in no documentation."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REPLACED = {
    "painter": "backend",
    "painters": "backends",
    "painted": "output",
    "told": "request",
    "testimony": "lineage checks",
    "statement": "manifest checks",
    "verdict": "gate score",
    "verdicts": "gate scores",
    "judge": "score gates",
    "judged": "scored",
    "remade": "retried",
    "needs": "requirements",
    "supply": "assets",
    "supplies": "assets",
    "materials": "assets",
    "bank": "reference set",
    "banks": "reference sets",
    "fitting": "fit",
    "masking": "object mask",
    "restyle": "AdaIN operator",
    "restyling": "AdaIN operator",
    "journal": "event log",
    "least": "min",
    "most": "max",
}
"""Word of an identifier -> the field's."""
IN_ROOMS = {
    "pipeline/audit": {"account": "attempt accounting", "origin": "source"},
    "pipeline/cluster": {
        "room": "node capacity",
        "rooms": "node capacity",
        "wave": "scheduling group",
        "waves": "scheduling groups",
    },
}
"""The same for words that are in use for something else elsewhere: a sine wave, the origin of a URL."""
OTHERS = {"most_common", "least_squares_decoder"}
"""Names of other libraries and of mathematics."""
PROSE = ("painter", "testimony", "verdict", "remade", "restyling operator", "reference bank", "least_", "most_")
"""What no page of the documentation says either; the other words mean something else there."""
PAGES = ("README.md", "DESIGN.md", "SECURITY.md", "docs/*.md")

FILES = sorted(path for top in ("schemas", "pipeline", "palimpsest", "jobs") for path in (ROOT / top).rglob("*.py"))


def identifiers(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.update((node.asname or node.name).split("."))
    return found - OTHERS


def words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_identifiers_are_the_fields_words(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    replaced = REPLACED | next((more for room, more in IN_ROOMS.items() if place.startswith(room)), {})
    names = identifiers(ast.parse(path.read_text())) | ({path.stem} - OTHERS)
    found = {name: replaced[word] for name in names for word in words(name) & set(replaced)}
    assert not found, f"{place}: say instead {found}"


@pytest.mark.parametrize("path", sorted(page for pattern in PAGES for page in ROOT.glob(pattern)), ids=lambda p: p.name)
def test_pages_say_the_fields_words(path: Path) -> None:
    text = path.read_text().lower().replace("least_squares", "")
    found = [word for word in PROSE if word in text]
    assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_the_glossary_has_twelve_nouns() -> None:
    text = (ROOT / "DESIGN.md").read_text()
    section = text[text.index("## Glossary") : text.index("## Rooms")]
    rows = re.findall(r"^\| ([a-z]+) \| .* \| `([a-z_/]+\.py)` \|$", section, re.MULTILINE)
    assert len(rows) == 12
    assert all((ROOT / place).is_file() for _, place in rows)
