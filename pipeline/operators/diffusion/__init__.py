"""Images made or changed by diffusion."""
