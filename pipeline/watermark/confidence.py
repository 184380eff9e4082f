"""Confidence of a reading: a bound on the probability that an image without this key's mark reads as well.

The lattice's dither is drawn by the key, uniform over one cell and independent from projection to projection. So for
*any* image made without the key, the M places within the cells (u_1 .. u_M, as phases in [0, 1)) are exactly
independent and uniform over the choice of key: no model of images is needed. Two statistics follow, both of M = 128
bounded terms:

    C = sum of s_i cos(2 pi u_i)    agreement with the code word s of the payload that was decoded, s_i = +-1
    S = sum of cos(4 pi u_i)        how near the places are to *any* lattice point, whatever the bits

For one fixed code word, Chernoff with E exp(x cos(2 pi u)) = I0(x) gives P(C >= t) <= exp(-M r(t / M)), where
r(m) = sup_x (x m - ln I0(x)) > m^2; the same holds for S. Two ways to a false alarm, joined by a union bound (the 2
below):

    A   some word with a right tag agrees: there are 2^48          P <= 2 H 2^48 exp(-M r(C / M))
    B   the lattice is met and the tag is right                    P <= 2 H 2^-16 exp(-M r(S / M))

H is the number of hypotheses tried (steps x bands). B is a product because the events are independent: adding half a
cell along a code word keeps uniform phases uniform, leaves S as it is and moves the decoded word, over all code
words, to each of the 2^64 words, of which 2^48 have a right tag. An image is marked when the smaller bound is at most
1e-6; then by construction at most 1e-6 of unmarked images (or wrong keys) pass. Looked up in a data set of N rows, a
false alarm also has to name one of them: times N / 2^48 (for way A and N = 1e6: 3.6e-15 in all).

All of this is about chance, not about attacks: the mark is added to an image, so whoever has an image with and without
its mark, or enough marked images, can put that mark on another image or remove it.
"""

import numpy as np
import numpy.typing as npt
import torch

from pipeline.watermark.payload import NAME_BITS, TAG_BITS

THRESHOLD = 6.0
"""Lowest score of a mark: a false-positive rate of 1e-6 an image."""

Floats = npt.NDArray[np.float64]


def tail(mean: Floats) -> Floats:
    """Return a lower bound of r(m), natural logarithm a term, for means of cosines in [-1, 1]; 0 where m <= 0.

    x = m (2 - m^2) / (1 - m^2) is near the best x (Banerjee et al., "Clustering on the unit hypersphere using von
    Mises-Fisher distributions", JMLR 2005, eq. 4.4 for two dimensions); every x gives a valid bound.
    """
    bounded = np.clip(mean, 0.0, 0.999)
    best = bounded * (2.0 - bounded**2) / (1.0 - bounded**2)
    log_bessel = torch.special.i0e(torch.from_numpy(best)).log().numpy() + best
    rate: Floats = np.maximum(best * bounded - log_bessel, bounded**2)
    return rate


def score(agreement: Floats, closeness: Floats, terms: int, hypotheses: int) -> Floats:
    """Return -log10 of the false-positive bound of readings whose tag is right; at least 0.

    Args:
        agreement: C / M, in [-1, 1].
        closeness: S / M, in [-1, 1].
        terms: M.
        hypotheses: H.
    """
    tries = np.log(2.0 * hypotheses)
    some_word = tries + NAME_BITS * np.log(2.0) - terms * tail(agreement)
    lattice = tries - TAG_BITS * np.log(2.0) - terms * tail(closeness)
    sure: Floats = np.maximum(0.0, -np.minimum(some_word, lattice) / np.log(10.0))
    return sure


def match_score(agreement: Floats, terms: int, hypotheses: int, candidates: int) -> Floats:
    """Return -log10 of the false-positive bound when the payload is the best of `candidates` known ones."""
    sure: Floats = np.maximum(0.0, (terms * tail(agreement) - np.log(float(hypotheses) * candidates)) / np.log(10.0))
    return sure
