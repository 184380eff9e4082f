"""Conformance tests of operators and gates, as classes for pytest: subclass one, and name your class and parameters.

    class TestAcmeBlur(OperatorConformance):
        operator = AcmeBlur
        params: ClassVar[dict[str, Any]] = {"sigma_range_px": [0.5, 2.0]}

Needs pytest, which `import palimpsest` does not.
"""

import pytest

pytest.register_assert_rewrite("palimpsest.testing.gates", "palimpsest.testing.operators")  # a failure shows values

from palimpsest.testing.gates import GateConformance  # noqa: E402
from palimpsest.testing.operators import OperatorConformance  # noqa: E402

__all__ = ["GateConformance", "OperatorConformance"]
