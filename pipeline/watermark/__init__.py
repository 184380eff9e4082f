"""The keyed mark on every image: its payload, how it goes in, how it is read back."""
