"""The output before and after the units: its checks, lease, artifacts, manifest and seal."""
