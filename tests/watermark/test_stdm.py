import hashlib
from functools import cache

import numpy as np
import pytest
import torch

from pipeline.watermark.payload import from_bits, payload, to_bits
from pipeline.watermark.spectrum import analyse, synthesise
from pipeline.watermark.stdm import FLOOR_DB, Pixels, Stdm
from tests.watermark.measure import ATTACKS, fashion, photos, recoded, resized, ssim

SIZES = [(16, 16), (28, 28), (32, 32), (64, 64), (100, 60), (256, 256), (333, 512), (512, 512)]
KEY, OTHER = b"a key for the tests", b"another key for the tests"


pytestmark = pytest.mark.usefixtures("one_thread")


def words(count: int) -> list[int]:
    return [payload(KEY, str(index)) for index in range(count)]


@cache
def photographs() -> tuple[Pixels, Pixels]:
    """100 photograph-like images of 256 px, and marked."""
    images = photos(100, (256, 256), 3, None)
    assert len(images) == 100
    return images, Stdm(KEY).embed(images, words(100)).images


@cache
def products() -> tuple[Pixels, Pixels]:
    """1,000 grey product images of 28 px on black, and marked."""
    images = fashion(1000)
    embedded = Stdm(KEY).embed(images, words(1000))
    assert not embedded.unmarkable
    return images, embedded.images


def right(found: Pixels, first: int = 0) -> int:
    """How many of the images tell the payload of their index."""
    expected = words(first + len(found))[first:]
    return sum(reading.payload == word for reading, word in zip(Stdm(KEY).read(found), expected, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_what_goes_in_comes_out(size: tuple[int, int], channels: int) -> None:
    images = photos(3, size, channels, None)
    embedded = Stdm(KEY).embed(images, words(3))
    assert embedded.images.shape == images.shape and embedded.images.dtype == np.uint8
    assert not embedded.unmarkable
    assert right(np.stack([recoded(image, "PNG") for image in embedded.images])) == 3
    measured = 10 * np.log10(255**2 / ((embedded.images.astype(float) - images) ** 2).mean(axis=(1, 2, 3)))
    assert embedded.psnr_db == pytest.approx(measured)
    assert (embedded.psnr_db >= FLOOR_DB).all()


def test_a_thousand_pixels_a_side() -> None:
    images = photos(1, (1024, 1024), 3, None)
    marked = Stdm(KEY).embed(images, words(1)).images
    assert right(np.stack([recoded(marked[0], "JPEG", quality=50)])) == 1
    assert Stdm(OTHER).read(marked)[0].payload is None


@pytest.mark.parametrize("attack", ["png", "jpeg90", "jpeg75", "jpeg50", "webp80", "noise5", "light+20", "light-30"])
def test_photographs_keep_their_mark(attack: str) -> None:
    marked = photographs()[1]
    count = {"jpeg75": 100, "png": 10}.get(attack, 30)
    found = np.stack([ATTACKS[attack](image) for image in marked[:count]])
    assert right(found) >= count - 1


@pytest.mark.parametrize("factor", [0.5, 2.0, 1.37])
def test_a_resized_photograph_keeps_its_mark(factor: float) -> None:
    found = [Stdm(KEY).read_any(resized(image, factor)).payload for image in photographs()[1][:6]]
    assert found == words(6)


def test_small_images_keep_their_mark_in_png_and_mild_jpeg() -> None:
    marked = products()[1]
    assert right(marked) == 1000
    assert right(np.stack([recoded(image, "JPEG", quality=90) for image in marked[:200]])) >= 186
    assert right(np.stack([recoded(image, "WEBP", lossless=True) for image in marked[:20]])) == 20


def test_the_distortion_is_what_was_asked() -> None:
    images = photographs()[0][:20]
    for asked in (38.0, 42.0, 46.0):
        embedded = Stdm(KEY, asked).embed(images, words(20))
        assert np.abs(embedded.psnr_db - asked).max() <= 0.5
        assert [reading.payload for reading in Stdm(KEY).read(embedded.images)] == words(20)  # the reader need not know
    small = Stdm(KEY).embed(products()[0][:200], words(200))
    assert abs(small.psnr_db.mean() - 42) <= 0.5 and small.psnr_db.min() > 40
    alike = [ssim(image, marked) for image, marked in zip(*(half[:20] for half in photographs()), strict=True)]
    assert np.mean(alike) > 0.97


def test_no_mark_on_unmarked_images() -> None:
    assert not any(reading.payload is not None for reading in Stdm(KEY).read(products()[0]))
    assert not any(reading.payload is not None for reading in Stdm(KEY).read(photographs()[0]))
    assert Stdm(KEY).read_any(photographs()[0][0]).payload is None


def test_no_mark_under_a_wrong_key() -> None:
    assert not any(reading.payload is not None for reading in Stdm(OTHER).read(products()[1]))
    assert not any(reading.payload is not None for reading in Stdm(OTHER).read(photographs()[1]))


def test_a_payload_with_a_wrong_tag_is_no_mark() -> None:
    foreign = Stdm(KEY).embed(photographs()[0][:2], [payload(OTHER, "a"), 12345]).images
    assert [reading[:] for reading in Stdm(KEY).read(foreign)] == [(None, 0.0, False)] * 2


def test_phases_of_unmarked_images_are_uniform_over_keys() -> None:
    images, counts, ones = products()[0][:250], np.zeros(16), 0
    for index, image in enumerate(images):
        phases = Stdm(f"key number {index:06}".encode())._phases(image[None], 12)[0, 40].numpy() % 1.0
        counts += np.histogram(phases, bins=16, range=(0, 1))[0]
        ones += int(((phases > 0.25) & (phases < 0.75)).sum())
    expected = 250 * 128 / 16
    assert ((counts - expected) ** 2 / expected).sum() < 45  # chi-square, 15 degrees: probability 1e-4
    assert abs(ones - 16_000) < 4 * (32_000 / 4) ** 0.5  # hard bits are fair coins


def test_the_bytes_do_not_depend_on_the_batch_or_on_threads() -> None:
    for images in (products()[0][:8], photos(8, (28, 28), 3, None), photographs()[0][:8]):
        together = Stdm(KEY).embed(images, words(8))
        alone = [Stdm(KEY).embed(images[index : index + 1], [words(8)[index]]) for index in range(8)]
        assert (np.concatenate([one.images for one in alone]) == together.images).all()
        assert [one.psnr_db[0] for one in alone] == together.psnr_db.tolist()
        torch.set_num_threads(2)
        assert (Stdm(KEY).embed(images[1::-1], words(2)[::-1]).images[::-1] == together.images[:2]).all()
        torch.set_num_threads(1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_bytes_do_not_depend_on_the_device() -> None:
    for images in (products()[0][:100], photographs()[0][:20]):
        here, there = (Stdm(KEY, device=device).embed(images, words(len(images))) for device in ("cpu", "cuda"))
        assert (here.images == there.images).all()


def test_sums_are_exact_in_any_order() -> None:
    image = torch.from_numpy(photographs()[0][:2, :, :, 0].astype(np.float64))
    turned = analyse(image.flip(1), 64)  # odd rows of the basis change sign, sums run the other way
    signs = torch.tensor([(-1.0) ** row for row in range(64)])[:, None]
    assert (turned * signs == analyse(image, 64)).all()
    back = synthesise(analyse(image, 64) / 256, 256, 256)
    assert (analyse(back, 64) / 256 - analyse(image, 64) / 256).abs().max() < 1e-2


def test_unmarkable_images_are_named_and_left_alone() -> None:
    images = products()[0][:6].copy()
    images[1], images[4] = 0, 137
    embedded = Stdm(KEY).embed(images, words(6))
    assert embedded.unmarkable == [1, 4]
    assert (embedded.images[[1, 4]] == images[[1, 4]]).all() and np.isinf(embedded.psnr_db[[1, 4]]).all()
    for size in ((1, 1), (15, 40)):
        noise = np.random.default_rng(1).integers(0, 256, (2, *size, 3), dtype=np.uint8)
        assert Stdm(KEY).embed(noise, words(2)).unmarkable == [0, 1]
        assert [reading.payload for reading in Stdm(KEY).read(noise)] == [None, None]
    assert Stdm(KEY).embed(images[:0], []).unmarkable == []


def test_black_and_white_is_marked_or_named() -> None:
    letters = np.where(photos(20, (28, 28), 1, None) > 120, 255, 0).astype(np.uint8)
    embedded = Stdm(KEY).embed(letters, words(20))
    for index, reading in enumerate(Stdm(KEY).read(embedded.images)):
        assert (reading.payload == words(20)[index]) != (index in embedded.unmarkable)


def test_a_worn_mark_is_matched_among_known_samples() -> None:
    samples = np.random.default_rng(3).integers(0, 256, (500, 16), dtype=np.uint8)
    known = [payload(KEY, sample.tobytes().hex()) for sample in samples]
    worn = ATTACKS["jpeg75"](photos(1, (28, 28), 3, None)[0])
    assert Stdm(KEY).match(worn, [samples], 500)[0] is None
    marked = Stdm(KEY).embed(photos(8, (28, 28), 3, None), known[:8]).images
    found = [Stdm(KEY).match(ATTACKS["jpeg75"](image), [samples], 500)[0] for image in marked]
    assert all(word in (None, known[index]) for index, word in enumerate(found))
    assert sum(word is not None for word in found) >= 5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="payloads: 1 for 2"):
        Stdm(KEY).embed(np.zeros((2, 28, 28, 1), np.uint8), [1])
    with pytest.raises(ValueError, match="uint8"):
        Stdm(KEY).read(np.zeros((2, 28, 28, 2), np.uint8))
    assert from_bits(to_bits(words(3))) == words(3)


def test_marks_of_today_are_readable_tomorrow() -> None:
    """A golden: no network, no codec, exact sums, so the bytes are the same on every machine."""
    y, x = np.mgrid[0:64, 0:64]
    image = ((x * 3 + y * 2 + (x * y) // 7) % 200 + 20).astype(np.uint8)[None, :, :, None]
    marked = Stdm(KEY).embed(image, words(1)).images
    assert hashlib.sha256(marked.tobytes()).hexdigest()[:16] == "9f20529bb1a182d0"
