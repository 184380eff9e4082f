"""Diffusion backends: models of ours, class-conditional models and published pipelines behind one call."""
