"""Parameters that all gates share."""

from pydantic import Field

from pipeline.contracts import Parameters


class GateParameters(Parameters):
    """The branches that a gate scores. Not in a unit's digest, which names the gates of its own branch."""

    branches: tuple[str, ...] | None = Field(None, description="names of the branches it scores; all if omitted")
