"""A mark that is too worn to be read, matched among the samples that it may be of: millions, a few at a time.

The phases of an image agree with a code word by C = sum of s_i cos(2 pi u_i) (see `confidence`), at one of H hypotheses
of step and band. Of a sample's 64 bits the 48 of its name are hashed first. They alone decide 84 of the 128 coded bits,
and the others add at most the sum of their |cos|; so the tag, the second hash, is computed only for samples that may
still be a match.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from pipeline.watermark import confidence, trellis
from pipeline.watermark.lattice import RATE, TERMS
from pipeline.watermark.payload import BITS, NAME_BITS, from_name, names, to_bits

SAMPLES_AT_ONCE: Final = 1 << 14
_OF_NAME: Final = slice(trellis.MEMORY * RATE, NAME_BITS * RATE)
"""Coded bits that depend on no bit of the tag."""
_MARGIN: Final = 1e-2
"""Of a sum of float32, for rounding."""

Ids = npt.NDArray[np.uint8]


def match(key: bytes, soft: torch.Tensor, samples: Iterable[Ids], count: int) -> tuple[int | None, float]:
    """Find the word of the sample that an image carries.

    Samples are read until one is a match; then the best of its part is taken.

    Args:
        soft: [H, M] float32, the cosines of the phases at each hypothesis.
        samples: parts of [N, 16] uint8, the bytes of sample ids.
        count: how many samples there are in all, at least.

    Returns:
        the word, None below a score of 6; and the score, which counts the samples; 0 where none came near.
    """
    needed = TERMS * _needed_agreement(len(soft), count)
    own, rest = soft[:, _OF_NAME], soft.abs().sum(dim=1) - soft[:, _OF_NAME].abs().sum(dim=1)
    against = (own.sum(dim=1) + rest - needed + _MARGIN) / 2  # of coded bits that are 1, at most
    own = own.T.contiguous()
    best, found = 0.0, None
    for part in samples:
        for first in range(0, len(part), SAMPLES_AT_ONCE):
            named = names(key, part[first : first + SAMPLES_AT_ONCE])
            ones = torch.from_numpy(_coded(named)[:, _OF_NAME]).to(soft.device, torch.float32) @ own
            near = (ones <= against).any(dim=1).nonzero()[:, 0].tolist()
            for word in (from_name(key, named[row].tobytes()) for row in near):
                agreement = _agreement(soft, word)
                if agreement > best:
                    best, found = agreement, word
        if best >= needed:
            break
    score = float(confidence.match_score(np.array([best / TERMS]), TERMS, len(soft), count)[0])
    return (found if score >= confidence.THRESHOLD else None), score


def _agreement(soft: torch.Tensor, word: int) -> float:
    """Return the agreement C of one word, at the best hypothesis."""
    signs = 1.0 - 2.0 * torch.from_numpy(trellis.encode(to_bits([word]), RATE)[0]).to(soft.device, torch.float64)
    return float((soft.to(torch.float64) @ signs).max())


def _needed_agreement(hypotheses: int, count: int) -> float:
    """Return the least C / M of a match; see `confidence.match_score`, which rises with it."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        score = confidence.match_score(np.array([middle]), TERMS, hypotheses, count)[0]
        low, high = (low, middle) if score >= confidence.THRESHOLD else (middle, high)
    return low


def _coded(named: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return [N, M] coded bits of [N, 6] names with tags of zeros: the code is linear, so those of bytes are added."""
    every = np.zeros((NAME_BITS // 8, 256, BITS // 8), np.uint8)
    for place in range(NAME_BITS // 8):
        every[place, :, place] = np.arange(256)
    bits = trellis.encode(np.unpackbits(every.reshape(-1, BITS // 8), axis=1), RATE)
    tables = np.packbits(bits, axis=1).view(np.uint64).reshape(NAME_BITS // 8, 256, -1)
    coded = np.zeros((len(named), tables.shape[2]), np.uint64)
    for place, table in enumerate(tables):
        coded ^= table[named[:, place]]
    return np.unpackbits(coded.view(np.uint8), axis=1)
