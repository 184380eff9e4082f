"""The operators and gates there are: built in, and by entry points of installed packages."""

from pipeline.contracts import Gate, Operator
from pipeline.registry import GATE, GATES, OPERATOR, OPERATORS, gate_class, offers, operator_class


def operators() -> dict[str, type[Operator]]:
    """Return the class of every operator by its name in recipes; `help` of it, and of its `Params`, says the rest.

    Raises:
        RecipeError: one cannot be imported.
    """
    return {name: operator_class(name) for name in sorted({*OPERATORS, *offers(OPERATOR)})}


def gates() -> dict[str, type[Gate]]:
    """Return the class of every gate by its name in recipes.

    Raises:
        RecipeError: one cannot be imported.
    """
    return {name: gate_class(name) for name in sorted({*GATES, *offers(GATE)})}
