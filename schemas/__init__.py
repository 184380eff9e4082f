"""Contracts on disk: the recipe, the rows, the records of units, the manifest. No behaviour."""
