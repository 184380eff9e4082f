"""Mirror images: the cheapest augmentation there is, without torch."""

import functools

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.contracts import Applied, Draws, ImageBatch, Operator, Parameters, Pixels
from pipeline.errors import JobError
from pipeline.noise import Noise
from pipeline.seeding import generators

_BLOCK_BYTES = 1 << 17  # a block of source and result together stay in a core's second-level cache
_LARGE_BYTES = 1 << 14  # from here on a call an image costs less than gathering the images to mirror


class FlipParams(Parameters):
    """How often an image is mirrored."""

    probability: float = Field(0.5, ge=0, le=1, description="share of images mirrored left to right; 1 = always")
    vertical_probability: float = Field(0.0, ge=0, le=1, description="share mirrored top to bottom, drawn by itself")


class Flip(Operator):
    """Mirror each image left to right, top to bottom, both or neither: [N, H, W, C] uint8 -> the same shape.

    Draws `horizontal` and `vertical`, one bool each. Raises JobError where the batch has no images.
    """

    name = "flip"
    version = 1
    source = "Krizhevsky et al. 2012, ImageNet Classification with Deep CNNs, section 4.1"
    Params = FlipParams
    micro_batch = 64
    geometric = True
    uses_torch = False
    cpu_s_per_megapixel = 0.003
    params: FlipParams

    def draw(self, batch: ImageBatch) -> Draws:
        """Two bools a sample; a probability of 0 or 1 asks for no random number."""
        probabilities = (self.params.probability, self.params.vertical_probability)
        if all(chance in (0, 1) for chance in probabilities):
            columns = [[chance == 1] * len(batch) for chance in probabilities]
        else:
            numbers = np.array([generator.random(2) for generator in generators(batch.seeds)]).reshape(-1, 2)
            columns = (numbers < probabilities).T.tolist()
        return Draws({"horizontal": columns[0], "vertical": columns[1]})

    def apply(self, batch: ImageBatch, draws: Draws, noise: Noise) -> Applied:  # noqa: ARG002 - nothing to add
        """Mirror where drawn. The result is contiguous and never shares memory with the batch."""
        if batch.images is None:
            raise JobError("flip: there are no images to mirror; put it after an operator that makes some")
        horizontal = np.asarray(draws.columns["horizontal"], dtype=bool)
        vertical = np.asarray(draws.columns["vertical"], dtype=bool)
        images = mirror(batch.images, horizontal)
        if vertical.any():
            images[vertical] = images[vertical, ::-1]
        return Applied(images)


def mirror(images: Pixels, where: npt.NDArray[np.bool_]) -> Pixels:
    """Return a copy of `images` [N, H, W, C], mirrored left to right where `where` [N] says so."""
    made = np.empty_like(images, order="C")
    height, width, channels = images.shape[1:]
    if height * width * channels >= _LARGE_BYTES:
        for index, mirrored in enumerate(where):
            if mirrored:
                _mirror_rows(images[index], made[index])
            else:
                made[index] = images[index]
        return made
    made[:] = images
    if where.any():
        rows = images[where].reshape(-1, width, channels)
        small = np.empty_like(rows)
        _mirror_rows(rows, small)
        made[where] = small.reshape(-1, height, width, channels)
    return made


def _mirror_rows(source: Pixels, result: Pixels) -> None:
    """Write the rows `source` [R, W, C] mirrored into `result`, of the same shape and apart in memory."""
    rows, width, channels = source.shape
    by_words = width * channels % 8 == 0 and channels in (1, 3) and source.flags.c_contiguous
    step = max(1, _BLOCK_BYTES // max(1, width * channels))
    for first in range(0, rows, step):
        block = slice(first, first + step)
        if by_words:
            _mirror_words(source[block], result[block])
            continue
        for channel in range(channels):  # NumPy copies pixels of 3 bytes one by one, four times as slowly
            result[block, :, channel] = source[block, ::-1, channel]


def _mirror_words(source: Pixels, result: Pixels) -> None:
    """As `_mirror_rows`, of contiguous rows of whole 64-bit words and 1 or 3 channels, in less than half the time.

    All bytes of a row are reversed, eight at a time; that reverses the channels, too, so the outer two change places.
    """
    rows, channels = len(source), source.shape[2]
    result.reshape(rows, -1).view("<u8")[:] = source.reshape(rows, -1).view(">u8")[:, ::-1]
    if channels == 1:
        return
    bytes_ = result.reshape(-1)
    first, third = bytes_[:-2], bytes_[2:]
    change = first ^ third
    change &= _first_bytes(len(change))
    first ^= change
    third ^= change


@functools.lru_cache(maxsize=8)
def _first_bytes(size: int) -> npt.NDArray[np.uint8]:
    """Return a mask [size]: 255 for the first byte of each pixel of three, else 0."""
    mask = np.zeros(size, np.uint8)
    mask[::3] = 255
    return mask
