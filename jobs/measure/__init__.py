"""Measurements of the embedded models, each printed as JSON with what it was measured on."""
