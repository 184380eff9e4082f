"""The report page shows names and reasons as text, never as markup."""

import pytest

from pipeline.lineage.page import Card, GateLine, Sheet, Tile, page
from schemas.manifest import Counts, Manifest

ODD = "<script>alert('x')</script> \"&\" {{ 7 * 7 }} \x1b[31m \u202e"
SHOWN = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &#34;&amp;&#34; {{ 7 * 7 }} \\x1b[31m \\u202e"


COUNTS = Counts(units=4, asked=1234, accepted=1000)
MANIFEST = Manifest.model_construct(
    complete=False,
    units=9,
    counts=COUNTS,
    branches={ODD: COUNTS},
    chains=[{"name": ODD, "steps": [{"operator": "flip"}, {"operator": ODD}]}],
    recipe={"seed": 7},
    plan_digest="0123456789abcdef",
    palimpsest="0.1.0",
)


@pytest.fixture
def text() -> str:
    tiles = [Tile(None, ODD, ODD, source=True), Tile((b"\x00", "image/png"), ODD, ODD, (b"\x01", "image/jpeg"))]
    sheets = [Sheet(ODD, ODD, [Card(ODD, [tiles])])]
    gates = [GateLine(ODD, ODD, 2, (0.5, 0.25, 1e-9), None)]
    return page(MANIFEST, sheets, {"rejected": {ODD: 2}, "quarantined": {}}, gates)


def test_texts_of_others_are_no_markup(text):
    assert "<script" not in text and "\x1b" not in text and "\u202e" not in text
    assert text.count(SHOWN) == 13  # every place that the fixture fills


def test_numbers_scores_and_pictures(text):
    assert "incomplete: 4 of 9 units</span>; seed 7, plan <code>0123456789ab</code>, version 0.1.0" in text
    assert "<td>1,234</td><td>1,000</td><td>0</td><td>0</td>" in text
    assert "<td>2</td><td>0.5 · 0.25 · 1e-09</td><td></td>" in text
    assert 'class="source"' in text and "not there" in text and "source &lt;script" in text
    assert 'class="small"' in text and "data:image/png;base64,AA==" in text and "data:image/jpeg;base64,AQ==" in text
    assert "rejected: <code>" in text and "quarantined:" not in text
    assert "--tile: 96px; --card-width: 254px" in text
