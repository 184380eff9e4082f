"""Diffusion backends: own models in one file, class-conditional models and published pipelines behind one call."""
