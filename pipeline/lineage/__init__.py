"""Lineage on disk: output rows, and the card, Croissant, OpenLineage and report made of a manifest."""
