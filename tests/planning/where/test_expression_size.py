"""A `where` that would never end, or take all memory, is refused before it is evaluated; usual ones are not."""

import time

import pyarrow as pa
import pytest

from pipeline.errors import RecipeError
from pipeline.planning.where.row_filter import RowFilter
from pipeline.shards.columns.layout import read_layout
from pipeline.shards.files.discovery import find_shards
from pipeline.shards.reader import read_windows
from schemas.recipe import Columns
from tests.fixtures.shard_files import photos, write_shard

ENDLESS = [
    "9**9**9**9 == label", "label == 9**9**9", "(label**9)**(9**9) > 1", "2**label > 1", "label**label > 1",
    "label**99999999 > 1", "1e999 > label", f"label > {'9' * 3000}", f"label > {'9' * 60000}",
    "'a' * 99999999999 == name", "name * 99999999999 == 'a'", "99999999999 * name == 'a'", "(name + name) * 9 == 'a'",
    "label == label == " * 2000 + "label", "label == 1 or " * 4000 + "label == 1", "-" * 9000 + "label == 1",
    "+".join(["label"] * 9000) + " > 1", "(" * 9000 + "label" + ")" * 9000 + " == 1", "not " * 9000 + "label == 1",
    "[" * 500, "label in (" + "1, " * 20000 + ")", "name == '" + "x" * 70000 + "'", "name.str.contains('(a+)+$')",
    "name.str.match('(a|a)*b')", "name.str.fullmatch('((a*)b)*c')", "name.str.contains('(x+x+)+y')", "1j == label",
    "label == ...", "name" + ".str.lower()" * 3000 + " == 'a'", "boxes * 999999999 == 1", "(boxes + boxes) * 9 == 1",
    "name.str.upper() * 99 == 'A'",
    "name.str.replace('', 'aaaaaaaaa').str.replace('', 'aaaaaaaaa').str.replace('', 'aaaaaaaaa')"
    ".str.replace('', 'aaaaaaaaa') == 'a'",
    "name.str.contains('\\\\s?" + "a*" * 20 + "b')", "name.str.contains('(?=a)" + "a?" * 30 + "b')",
    "name.str.match('" + "(a|a)" * 20 + "b', flags=2)", "name.str.contains('" + "[" * 60_000 + "')",
    "name == \"" + "\\\"" * 30_000, "label == " + "abs(" * 300 + "label" + ")" * 300,
]  # fmt: skip
USUAL = [
    "label in (2, 4)", "label**2 > 3", "label ** 0.5 > 1", "name == 'cat' and label > -1",
    "name.str.contains('(?:cat|dog)s?$')",
    "name.str.match('c[a-z]+t')", "name.str.contains('[(+*)]')", "label in (" + "-1, " * 900 + "2)",
    " or ".join(f"label == {n}" for n in range(60)), "name == '" + "(" * 60 + "'",
    "name.str.replace('_', ' ').str.replace('-', ' ').str.strip() == 'cat'", "name.str.len() * 2 > 3",
    "name.str.match(r'^\\w+-\\d+_\\w+\\.jpe?g$')", "(label == 1) * 1 == 1",
    "label % 2 == 0", "label.isin([1, 2])", "(label + 1) * 2 > 3",
]  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = write_shard(
        tmp_path_factory.mktemp("where") / "a.parquet", photos(4, 8, 8), [0, 1, 2, 3],
        extra={"name": pa.array(["cat", "a" * 40, None, "dogs"]), "boxes": pa.array([[1], [2, 3], None, []])},
    )  # fmt: skip
    shards = find_shards(str(path), "/")
    layout = read_layout(shards, Columns(), ())
    return layout, next(read_windows(shards[0], layout, 0, 4, 4))[1]


@pytest.mark.parametrize("where", ENDLESS, ids=lambda where: where[:30])
def test_what_would_not_end_is_refused(rows, where):
    began = time.process_time()
    with pytest.raises(RecipeError) as caught:
        tried(where, *rows)
    assert time.process_time() - began < 1
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize("where", USUAL, ids=lambda where: where[:30])
def test_usual_conditions_are_evaluated(rows, where):
    began = time.process_time()
    tried(where, *rows)
    assert time.process_time() - began < 1


def tried(where, layout, first):
    selection = RowFilter(where, layout)
    selection.check()
    selection.try_on(first)
