"""What a bench compares: this product, and the scripts that users write instead."""
