"""Names in Markdown are shown as they are, and act as no markup."""

import pytest

from pipeline.lineage.markdown import code, inert


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("T-shirt/top", "T-shirt/top"),
        ("<script>alert(1)</script>", r"&lt;script&gt;alert\(1\)&lt;/script&gt;"),
        ("[a](http://b)", r"\[a\]\(http\://b\)"),
        ("www.b.org", r"www\.b.org"),
        ("a | b\n# c", r"a \| b \# c"),
        ("*a* _b_ `c` ~~d~~ @e &lt; $x$ \\", r"\*a\* \_b\_ \`c\` \~\~d\~\~ \@e &amp;lt; \$x\$ " + "\\\\"),
        ("\x1b[31mred\u202e", r"\\x1b\[31mred\\u202e"),
        ("---\nlicense: mit\n---", r"--- license\: mit ---"),
    ],
)
def test_a_name_is_inert(name, shown):
    assert inert(name) == shown


def test_a_code_span_stays_one():
    assert code("a`b|c\nd") == "`a'b/c d`"
    assert code("") == "` `"
    assert len(code("x" * 10**6)) < 130
