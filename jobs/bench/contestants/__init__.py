"""The contestants of the benches: this product, and plain scripts that do the same work."""
