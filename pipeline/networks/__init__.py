"""The mathematics: networks, losses, samplers and their weights. Papers' letters live here and nowhere else."""
