"""Image algorithms in NumPy: no network, no torch."""
