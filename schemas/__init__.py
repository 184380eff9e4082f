"""Contracts on disk: the recipe, the rows, the markers, the manifest. No behaviour."""
