"""AcmeBlur keeps what every operator promises, and blurs."""

from typing import Any, ClassVar

import numpy as np
from palimpsest.testing import OperatorConformance

from acme_blur import AcmeBlur, blurred


class TestAcmeBlur(OperatorConformance):
    operator = AcmeBlur
    params: ClassVar[dict[str, Any]] = {"sigma_range_px": [0.5, 2.0]}


def test_a_point_becomes_a_gaussian_of_the_same_sum() -> None:
    image = np.zeros((21, 21, 1), np.uint8)
    image[10, 10] = 255
    found = blurred(image, 1.0)
    assert found[10, 10, 0] == round(255 / (2 * np.pi))  # the density of two dimensions at its mean
    assert found[10, 9, 0] == found[9, 10, 0] == found[11, 10, 0]
