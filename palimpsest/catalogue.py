"""The operators and gates there are."""

from pipeline.contracts import Gate, Operator
from pipeline.registry import GATES, OPERATORS, gate_class, operator_class


def operators() -> dict[str, type[Operator]]:
    """Return the class of every operator by its name in recipes; `help` of it, and of its `Params`, says the rest.

    Raises:
        RecipeError: one cannot be imported.
    """
    return {name: operator_class(name) for name in sorted(OPERATORS)}


def gates() -> dict[str, type[Gate]]:
    """Return the class of every gate by its name in recipes.

    Raises:
        RecipeError: one cannot be imported.
    """
    return {name: gate_class(name) for name in sorted(GATES)}
