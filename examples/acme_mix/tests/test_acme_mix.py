"""AcmeMix keeps what every operator promises, and mixes."""

from typing import Any, ClassVar

import numpy as np
from palimpsest import Partner, PartnerRow
from palimpsest.testing import OperatorConformance

from acme_mix import AcmeMix, mixed


class TestAcmeMix(OperatorConformance):
    operator = AcmeMix
    params: ClassVar[dict[str, Any]] = {"share_range": [0.2, 0.8]}


def test_a_quarter_of_white_on_black() -> None:
    row = PartnerRow(Partner("mix", "a.parquet", "0" * 64), np.full((3, 5, 3), 255, np.uint8), 1)
    assert (mixed(np.zeros((4, 4, 1), np.uint8), row, 0.25) == 64).all()
