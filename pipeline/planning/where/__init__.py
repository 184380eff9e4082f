"""`where`: which source rows a branch takes."""
