"""What can be said of a data set afterwards: verified, replayed, traced, reported. Trusts nothing it can compute."""
