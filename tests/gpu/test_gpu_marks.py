"""Marks on the GPU are the CPU's to the byte, and the CPU reads them."""

import numpy as np
import pytest

from pipeline.watermark.payload import payload
from pipeline.watermark.stdm import Stdm
from tests.gpu.on_gpu import KEY


def _images(height: int, width: int, channels: int) -> np.ndarray:
    """Smooth ones, noise, and ones with large parts at 0 and 255, which take the writer several passes."""
    rng = np.random.default_rng(height)
    waves = np.sin(np.arange(width) / 9)[None, :, None] * np.cos(np.arange(height) / 7)[:, None, None]
    smooth = [128 + 100 * waves * scale + np.zeros(channels) for scale in (0.2, 0.6, 1.0)]
    clipped = [128 + 400 * waves * scale + np.zeros(channels) for scale in (0.8, 2.0)]
    noise = [rng.normal(128, 40, (height, width, channels)) for _ in range(2)]
    return np.stack([np.clip(np.rint(each), 0, 255).astype(np.uint8) for each in (*smooth, *clipped, *noise)])


@pytest.mark.parametrize("shape", [(28, 28, 1), (48, 64, 3), (96, 96, 1), (256, 256, 3), (512, 384, 3)], ids=str)
def test_marks_are_equal_to_the_byte_and_read_back_on_the_cpu(shape: tuple[int, int, int]) -> None:
    images = _images(*shape)
    words = [payload(KEY, f"{index:032x}") for index in range(len(images))]
    cpu, gpu = Stdm(KEY), Stdm(KEY, device="cuda")
    there, here = cpu.embed(images, words), gpu.embed(images, words)
    assert here.unmarkable == there.unmarkable and len(there.unmarkable) < len(images) / 2
    assert (here.images == there.images).all()
    assert (here.psnr_db == there.psnr_db).all()
    assert (here.images != images).any()
    for reader in (cpu, gpu):
        read = [reading.payload for reading in reader.read(here.images)]
        assert [word for index, word in enumerate(read) if index not in here.unmarkable] == [
            word for index, word in enumerate(words) if index not in here.unmarkable
        ]
