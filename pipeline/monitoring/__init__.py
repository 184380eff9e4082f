"""What is said of a run while it goes: progress, events, the error budget, and being stopped."""
