"""Generative networks (flow matching on a U-Net, WGAN-GP), and their samplers."""
