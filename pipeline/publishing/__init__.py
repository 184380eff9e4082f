"""What surrounds the units: the manifest, who owns an output, and what is sealed."""
