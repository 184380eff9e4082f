import numpy as np
import pytest
import torch

from pipeline.watermark import confidence, trellis
from pipeline.watermark.payload import (
    BITS,
    check,
    from_bits,
    from_text,
    is_clear,
    keyed_digest,
    payload,
    stands_for,
    to_bits,
    to_text,
)

KEY = b"a key for the tests"


def test_the_payload_is_a_pure_function_of_key_and_sample() -> None:
    assert payload(KEY, "a") == payload(KEY, "a")
    assert payload(KEY, "a") != payload(KEY, "b")
    assert payload(KEY, "a") != payload(KEY + b"!", "a")
    assert to_text(payload(KEY, "a")) == "60a7c384293d2ab3"  # golden: an old mark must stay readable


def test_the_tag_names_its_key() -> None:
    words = [payload(KEY, str(index)) for index in range(200)]
    assert all(check(KEY, word) for word in words)
    assert not any(check(KEY + b"!", word) for word in words)
    assert not any(check(KEY, word ^ 1 << bit) for word in words[:4] for bit in range(BITS))


def test_a_random_word_passes_the_tag_once_in_65536() -> None:
    draws = np.random.default_rng(1).integers(0, 1 << 63, 200_000, dtype=np.uint64)
    passed = sum(check(KEY, int(word)) for word in draws)
    assert 0 <= passed <= 12  # 3.05 expected; more than 12 has probability 2e-5


def test_text_and_bits_go_there_and_back() -> None:
    words = [0, 1, 1 << 63, (1 << 64) - 1, payload(KEY, "x")]
    assert [from_text(to_text(word)) for word in words] == words
    assert from_bits(to_bits(words)) == words
    assert to_bits([1 << 63])[0].tolist() == [1] + [0] * 63


@pytest.mark.parametrize("text", ["", "12", "G" * 16, "ABCDEF0123456789", "0" * 17, "0x00000000000000"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="16 hex digits"):
        from_text(text)


def test_the_code_bears_errors() -> None:
    draw = np.random.default_rng(2)
    bits = draw.integers(0, 2, (200, BITS), dtype=np.uint8)
    sent = 1.0 - 2.0 * trellis.encode(bits, 2)
    assert (trellis.decode(torch.from_numpy(sent), 2) == bits).all()
    phases = sent * 0.25 - 0.25 + 0.13 * draw.standard_normal(sent.shape)  # 0 or half a cell, 0.13 cells of noise
    decoded = trellis.decode(torch.from_numpy(np.cos(2 * np.pi * phases)), 2)
    assert (decoded == bits).all(axis=1).mean() >= 0.98


def test_the_code_is_linear_and_has_no_end() -> None:
    draw = np.random.default_rng(3)
    first, second = draw.integers(0, 2, (2, 10, BITS), dtype=np.uint8)
    assert (trellis.encode(first ^ second, 2) == trellis.encode(first, 2) ^ trellis.encode(second, 2)).all()
    assert (trellis.encode(np.roll(first, 5, axis=1), 2) == np.roll(trellis.encode(first, 2), 10, axis=1)).all()
    few = to_bits([word << 50 for word in range(1, 256)])
    assert trellis.encode(few, 2).sum(axis=1).min() == 10  # free distance of the (133, 171) code


def test_the_bound_holds_on_uniform_phases() -> None:
    cosines = np.cos(2 * np.pi * np.random.default_rng(4).random((200_000, 128)))
    means = cosines.mean(axis=1)
    for level in (0.1, 0.15, 0.2, 0.25):
        bound = float(np.exp(-128 * confidence.tail(np.array([level]))[0]))
        assert (means >= level).mean() <= bound
    assert confidence.tail(np.array([0.5]))[0] == pytest.approx(0.2691, abs=2e-3)  # sup_x x/2 - ln I0(x), by search


def test_a_clean_reading_is_beyond_doubt_and_a_random_one_nothing() -> None:
    assert confidence.score(np.array([0.95]), np.array([0.8]), 128, 97)[0] > 40
    assert confidence.score(np.array([0.45]), np.array([0.2]), 128, 97)[0] < confidence.THRESHOLD


def test_rows_hold_a_digest_that_needs_the_key() -> None:
    word = payload(KEY, "a")
    said = keyed_digest(KEY, word)
    assert said == "hmac-sha256:0c71f728fc7bc82190aceb5be910483f"  # golden: old rows must stay traceable
    assert said != keyed_digest(KEY + b"!", word) and said != keyed_digest(KEY, word + 1)
    assert stands_for(KEY, said, word) and stands_for(KEY, to_text(word), word)
    assert not stands_for(KEY, said, word + 1)
    assert is_clear(to_text(word)) and not is_clear(said)
