"""Splitting the names of files, folders and columns into words."""

import re


def split_words(name: str) -> list[str]:
    """Return the words and numbers of a name: `className2` and `class_name-2` give `class`, `name`, `2`."""
    apart = re.sub(r"([a-z0-9])([A-Z])|([A-Za-z])([0-9])", r"\1\3 \2\4", name)
    return re.findall(r"[a-z]+|[0-9]+", apart.lower())
