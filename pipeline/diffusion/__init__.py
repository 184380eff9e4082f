"""What the diffusion operators have in common."""
