"""A worn mark among known samples: the same word as comparing every code word in full, at any number of samples."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipeline.watermark import confidence, matching, trellis
from pipeline.watermark.lattice import RATE, TERMS
from pipeline.watermark.payload import from_name, names, payload, to_bits

KEY = b"a key for the tests"
SAMPLES = np.random.default_rng(5).integers(0, 256, (3_000, 16), dtype=np.uint8)


def soft_of(word: int, agreement: float, seed: int, hypotheses: int = 97) -> torch.Tensor:
    """Return random phases' cosines, of which one hypothesis agrees with a word by `agreement`, about."""
    drawn = np.random.default_rng(seed)
    soft = np.cos(2 * np.pi * drawn.random((hypotheses, TERMS)))
    signs = 1.0 - 2.0 * trellis.encode(to_bits([word]), RATE)[0]
    soft[hypotheses // 2] = np.clip(signs * agreement + drawn.normal(0, 0.2, TERMS), -1, 1)
    return torch.from_numpy(soft).to(torch.float32)


def compared_in_full(soft: torch.Tensor, words: list[int]) -> tuple[int, float]:
    signs = 1.0 - 2.0 * torch.from_numpy(trellis.encode(to_bits(words), RATE)).to(torch.float64)
    agreement, place = (signs @ soft.to(torch.float64).T).max(dim=1).values.max(dim=0)
    score = confidence.match_score(np.array([float(agreement) / TERMS]), TERMS, len(soft), len(words))[0]
    return words[int(place)], float(score)


def test_names_are_those_of_payloads() -> None:
    for key in (KEY, b"k" * 64, b"k" * 65):
        found = [from_name(key, name.tobytes()) for name in names(key, SAMPLES[:20])]
        assert found == [payload(key, sample.tobytes().hex()) for sample in SAMPLES[:20]]
    assert names(KEY, SAMPLES[:0]).shape == (0, 6)


def test_every_match_is_found_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "SAMPLES_AT_ONCE", 700)
    words = [payload(KEY, sample.tobytes().hex()) for sample in SAMPLES]
    sure = 0
    for seed, agreement in enumerate(np.linspace(0.1, 0.9, 17)):
        soft = soft_of(words[150 * seed], agreement, seed)
        best, score = compared_in_full(soft, words)
        expected = (best, pytest.approx(score)) if score >= confidence.THRESHOLD else None
        found = matching.match(KEY, soft, np.array_split(SAMPLES, 4), len(SAMPLES))
        assert found == expected if expected else found[0] is None and found[1] < confidence.THRESHOLD
        sure += expected is not None
    assert 5 < sure < 15


def test_reading_ends_at_a_match() -> None:
    read = []

    def parts() -> Iterator[npt.NDArray[np.uint8]]:
        for number, part in enumerate(np.array_split(SAMPLES, 10)):
            read.append(number)
            yield part

    word = payload(KEY, SAMPLES[400].tobytes().hex())
    assert matching.match(KEY, soft_of(word, 0.8, 1), parts(), len(SAMPLES))[0] == word
    assert read == [0, 1]
    assert matching.match(KEY, soft_of(word, 0.8, 1), parts(), 10**9)[0] == word
    assert matching.match(KEY, soft_of(word, 0.0, 1), parts(), len(SAMPLES)) == (None, 0.0)


def test_a_tag_is_computed_for_few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(matching, "from_name", lambda key, name: (asked.append(name), from_name(key, name))[1])
    matching.match(KEY, soft_of(0, 0.0, 2, hypotheses=388), [SAMPLES] * 10, 10 * len(SAMPLES))
    assert len(asked) < 30
