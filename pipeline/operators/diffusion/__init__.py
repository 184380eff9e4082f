"""Operators that generate or edit images with a diffusion model."""
