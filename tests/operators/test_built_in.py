"""Every built-in operator and gate stands in the file of its name, under that name."""

import pytest

from pipeline.registry import GATE, GATES, OPERATOR, OPERATORS, Kind, find_part


@pytest.mark.parametrize(("kind", "name"), [(OPERATOR, name) for name in OPERATORS] + [(GATE, name) for name in GATES])
def test_a_built_in_name_is_that_of_its_class_and_file(kind: Kind, name: str) -> None:  # type: ignore[type-arg]
    found, package = find_part(kind, name)
    assert package is None
    assert found.name == name == found.__module__.split(".")[-1]
    assert kind.known[name] == f"{found.__module__}:{found.__name__}"
