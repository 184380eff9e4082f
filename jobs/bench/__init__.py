"""Benches: this product beside other ways to do the same, over the same shards."""
