"""Escaping of names in Markdown, so that none acts as markup, HTML or a link."""

import html
import re

from pipeline.messages import one_line

MAX_CHARACTERS = 120
"""Characters of a name that are shown."""
_MARKUP = re.compile(r"[\\`*_\[\]|~$!#(){}@:]|(?<=www)\.", re.IGNORECASE)


def inert(text: object) -> str:
    """Return a name as Markdown that shows its characters, on one line, in a sentence or a table."""
    escaped = _MARKUP.sub(lambda found: f"\\{found.group()}", one_line(text, MAX_CHARACTERS))
    return html.escape(escaped, quote=False)


def code(text: object) -> str:
    """Return a name as a code span. A backtick or bar, which would end it or its cell, becomes another sign."""
    return f"`{one_line(text, MAX_CHARACTERS).replace('`', chr(39)).replace('|', '/') or ' '}`"
