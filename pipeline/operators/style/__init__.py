"""Styles: the look changes, the content stays."""
