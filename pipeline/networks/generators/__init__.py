"""Networks that make images, and their samplers."""
