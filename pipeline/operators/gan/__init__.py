"""Images made by GANs."""
