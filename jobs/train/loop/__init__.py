"""The loop of every trainer, its checkpoints, its configuration, and Ray Train."""
