"""Training objectives: distillation, noise prediction, and the perceptual loss network."""
