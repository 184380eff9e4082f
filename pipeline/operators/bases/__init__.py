"""What the operators of one family share, so that none imports another."""
