"""What a command prints is text, whatever the names in it."""

from jobs.terminal import say, show

ODD = "a\x1b[2J\x9bb\u202e\rc\td\ud800"
SPELLED = r"a\x1b[2J\x9bb\u202e\rc\td\ud800"


def test_a_line_stays_one(capsys):
    say(f"{ODD}\nnote   all is well")
    assert capsys.readouterr().out == SPELLED + "\\nnote   all is well\n"


def test_lines_keep_their_layout(capsys):
    show(f"branch     units\n{ODD}      1")
    assert capsys.readouterr().out == f"branch     units\n{SPELLED}      1\n"
