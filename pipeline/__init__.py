"""Palimpsest: labelled image shards in; augmented, marked, traceable training data out."""

__version__ = "0.1.0"
