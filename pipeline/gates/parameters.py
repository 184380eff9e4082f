"""What every gate may be told."""

from pydantic import Field

from pipeline.contracts import Parameters


class GateParameters(Parameters):
    """Which branches a gate judges. Not part of a unit's digest: there it is the gates of the unit's own branch."""

    branches: tuple[str, ...] | None = Field(None, description="names of the branches it judges; all if omitted")
