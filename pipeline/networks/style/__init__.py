"""Networks that move an image towards a style."""
