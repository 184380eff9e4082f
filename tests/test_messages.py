"""Whatever data a message is made of, it is one short line that no terminal takes for a command."""

import pickle

import pytest

from pipeline.errors import InputError, RowError, UnitError
from pipeline.messages import MAX_CHARACTERS, counted, listed, one_line, short_repr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\n  lines\t here ", "two lines here"),
        ("\x1b[31mred\x1b[0m\x07", r"\x1b[31mred\x1b[0m\x07"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("lone \ud800", r"lone \ud800"),
        ("a\u2028b\x85c", "a b c"),
        ("Ünïcode, 花, क्\u200dष", "Ünïcode, 花, क्\u200dष"),
        ("nul \x00 and c1 \x9b5n", r"nul \x00 and c1 \x9b5n"),
    ],
)
def test_a_line_is_safe_to_print(text: str, line: str) -> None:
    assert one_line(text) == line
    assert one_line(line) == line
    line.encode()  # no lone surrogate is left


@pytest.mark.parametrize("size", [0, 1, MAX_CHARACTERS, MAX_CHARACTERS + 1, 10**6])
@pytest.mark.parametrize("letter", ["x", "\x1b", "é"])
def test_a_line_is_short_and_keeps_its_ends(size: int, letter: str) -> None:
    line = one_line(f"shard.parquet: {letter * size}; remove it")
    assert len(line) <= MAX_CHARACTERS
    assert line.startswith("shard.parquet: ") and line.endswith("; remove it")
    assert one_line(line) == line


def test_values_are_short() -> None:
    assert short_repr("cat") == "'cat'"
    assert len(short_repr("A" * 10**6)) == 120
    assert len(short_repr(list(range(10**4)), 60)) <= 60
    assert short_repr(b"\x1b[2J") == "b'\\x1b[2J'"


def test_every_error_is_bounded_and_goes_between_processes() -> None:
    for error in (InputError("x" * 9000), UnitError("x\n" * 9000), RowError("empty", "\x1b" * 9000)):
        assert len(str(error)) <= MAX_CHARACTERS + 10
        assert "\n" not in str(error) and "\x1b" not in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error) and type(again) is type(error)
    row = RowError("empty", "no bytes")
    row.part, row.traceback_text = "flip", "Traceback"
    again = pickle.loads(pickle.dumps(row))
    assert (again.code, again.message, again.part, again.traceback_text) == ("empty", "no bytes", "flip", "Traceback")


def test_values_in_messages_are_few_and_short() -> None:
    assert listed(["a", "b"]) == "a, b" and listed(range(20), 3) == "0, 1, 2 and 17 more"
    assert len(listed(["x" * 500] * 500)) < 400 and "\n" not in listed(["a\nb"])


def test_one_thing_is_no_plural() -> None:
    assert [counted(number, "unit") for number in (0, 1, 2)] == ["0 units", "1 unit", "2 units"]
