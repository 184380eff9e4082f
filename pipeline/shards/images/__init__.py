"""Encoded images: formats, codecs, profiles, depth, and those that are text."""
