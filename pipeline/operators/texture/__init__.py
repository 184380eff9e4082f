"""Textures: pieces and neighbourhoods of images."""
