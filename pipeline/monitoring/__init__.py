"""A run while it goes: progress, the event log, the error budget, and stopping."""
