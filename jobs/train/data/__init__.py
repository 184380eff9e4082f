"""Training images: sources, labels, and procedural textures."""
