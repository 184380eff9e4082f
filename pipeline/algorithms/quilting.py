"""Image quilting: blocks of a texture laid over an image along minimum-error cuts (Efros & Freeman 2001). NumPy.

Levels are whole numbers, their products and sums too, so float64 adds them without rounding in any order: neither batch
nor threads can change which block fits best.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.algorithms.color_maps import LUMA
from pipeline.contracts import Pixels
from pipeline.seeding import generators

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Span = tuple[int, int]

FIRST_ALPHA = 0.1  # of the first of several passes: section 4
SHRINK = 2 / 3  # of the block from pass to pass: "reducing the block size by a third each time"
MIN_BLOCK_PX = 3
PART_VALUES = 1 << 18  # numbers that one part's candidate blocks hold: 2 MiB, which stay near the core


@dataclass(frozen=True)
class Quilting:
    """How blocks are cut: side and overlap in pixels, candidates a block, passes over the image."""

    block_px: int
    overlap_px: int
    candidates: int
    passes: int = 1

    def sizes(self) -> list[tuple[int, int]]:
        """Return (block, overlap) of each pass; blocks never shrink below 3 px, overlaps never below 1."""
        shares = [SHRINK**index for index in range(self.passes)]
        blocks = [max(min(self.block_px, MIN_BLOCK_PX), round(self.block_px * share)) for share in shares]
        overlaps = [max(1, round(self.overlap_px * share)) for share in shares]
        return [(block, min(overlap, block // 2)) for block, overlap in zip(blocks, overlaps, strict=True)]

    def alphas(self, alpha: Floats) -> list[Floats]:
        """Return the weight of the overlap in each pass: from 0.1 evenly to `alpha`; of a single pass `alpha`."""
        if self.passes == 1:
            return [alpha]
        return [FIRST_ALPHA + (alpha - FIRST_ALPHA) * index / (self.passes - 1) for index in range(self.passes)]


class TextureTable:
    """Textures [h, w, C] uint8 of one C in one array, so that one look-up cuts blocks of several of them.

    `values` is [pixels, C + 1] uint8, the last column luma, rounded; grey has its level twice.
    """

    def __init__(self, textures: Sequence[Pixels]) -> None:
        self.channels = textures[0].shape[2]
        self.heights = np.array([texture.shape[0] for texture in textures])
        self.widths = np.array([texture.shape[1] for texture in textures])
        sizes = self.heights * self.widths
        self.starts = np.cumsum(sizes) - sizes
        lumas = [luma_levels(texture)[..., None] for texture in textures]
        self.spans = [luma_span(luma) for luma in lumas]
        wide = [np.concatenate(pair, axis=2) for pair in zip(textures, lumas, strict=True)]
        self.values: Pixels = np.concatenate([texture.reshape(-1, self.channels + 1) for texture in wide])


def luma_levels(pixels: Pixels) -> Pixels:
    """BT.601 luma of [..., 1 or 3] uint8, rounded to whole levels: [...] uint8."""
    if pixels.shape[-1] == 1:
        return pixels[..., 0]
    red, green, blue = (weight * pixels[..., channel] for channel, weight in enumerate(LUMA))
    rounded: Pixels = np.rint(red + green + blue).astype(np.uint8)
    return rounded


def luma_span(luma: Pixels) -> Span:
    """Return the levels that 1 % of a luma's pixels lie below and above; if they are equal, its least and greatest."""
    low, high = (int(level) for level in np.percentile(luma, (1, 99), method="nearest"))
    return (low, high) if low < high else (int(luma.min()), int(luma.max()))


def match_luma_span(luma: Pixels, span: Span) -> Pixels:
    """Return luma [h, w] uint8 with its span (`luma_span`) moved to another, rounded and clipped.

    Constant luma moves to the middle of the other span.

    Textures seldom reach black and white: an image whose luma leaves their span has one nearest block for whole areas.
    """
    low, high = luma_span(luma)
    gain = (span[1] - span[0]) / (high - low) if high > low else 0.0
    start = span[0] if high > low else sum(span) / 2
    levels: Pixels = np.rint(start + gain * (luma.astype(np.float64) - low)).clip(0, 255).astype(np.uint8)
    return levels


def quilt(
    table: TextureTable, chosen: Whole, guides: Pixels, alpha: Floats, seeds: Sequence[int], how: Quilting
) -> Pixels:
    """Return [N, H, W, C] uint8: textures `chosen` [N] laid so that their luma follows `guides` [N, H, W].

    A block is the best of drawn candidates by alpha * overlap error + (1 - alpha) * error of luma against the guide
    (section 4), both as means of squared levels, so that alpha [N] means the same at any block size; alpha 1 is plain
    synthesis (section 2). It is pasted along the cheapest cuts (section 2.1). Every random position comes from `seeds`
    [N]. Several passes compare each block with the whole of what the pass before laid there.
    """
    height, width = guides.shape[1:]
    made = np.zeros((*guides.shape, table.channels), dtype=np.uint8)
    part = max(1, PART_VALUES // (how.candidates * how.block_px**2 * (table.channels + 1)))
    streams = generators(seeds)
    weights = how.alphas(alpha)
    for first in range(0, len(guides), part):
        rows = slice(first, first + part)
        for index, (block, overlap) in enumerate(how.sizes()):
            layer = _Layer(table, chosen[rows], guides[rows], block, overlap)
            before = made[rows] if index else None
            laid = layer.lay(before, weights[index][rows], streams[rows], how.candidates)
            made[rows] = laid[:, :height, :width]
    return made


def cheapest_cut(errors: Floats) -> Whole:
    """Return the cheapest path down `errors` [N, L, O]: a column per row [N, L], neighbours at most 1 apart.

    Section 2.1: E[i, j] = e[i, j] + min(E[i-1, j-1], E[i-1, j], E[i-1, j+1]). Of equal paths, the leftmost end wins.
    """
    count, length, span = errors.shape
    total = np.full((length, count, span + 2), np.inf)  # a wall on either side
    total[:, :, 1:-1] = errors.transpose(1, 0, 2)
    for above, row in itertools.pairwise(total):
        best = np.minimum(above[:, :-2], above[:, 1:-1])
        row[:, 1:-1] += np.minimum(best, above[:, 2:], out=best)
    images, around = np.arange(count), np.arange(-1, 2)[:, None]
    path = np.empty((length, count), dtype=np.int64)
    path[-1] = total[-1].argmin(axis=1)  # columns count the wall until the end
    for row in range(length - 2, -1, -1):
        path[row] = path[row + 1] - 1 + total[row, images, path[row + 1] + around].argmin(axis=0)
    return path.T - 1


class _Layer:
    """One pass over n images: blocks of one size on a grid that covers them."""

    def __init__(self, table: TextureTable, chosen: Whole, guides: Pixels, block: int, overlap: int) -> None:
        self.table, self.chosen, self.block, self.overlap = table, chosen, block, overlap
        self.step = block - overlap
        self.size = (guides.shape[1], guides.shape[2])
        sides = [_covering(side, block, self.step) for side in self.size]
        self.shape = (len(guides), *sides)
        self.guides = _extended(guides, sides)
        within = np.arange(block)
        self.offsets = within[:, None] * table.widths[chosen, None, None] + within  # [n, B, B]

    def lay(
        self, before: Pixels | None, alpha: Floats, streams: Sequence[np.random.Generator], candidates: int
    ) -> Pixels:
        """Return the canvas [n, H', W', C] after this pass over what the pass `before` made [n, H, W, C]."""
        channels = self.table.channels
        shape = (*self.shape, channels)
        canvas = np.zeros(shape, dtype=np.uint8) if before is None else _extended(before, shape[1:3])
        tops, lefts = (range(0, side - self.overlap, self.step) for side in shape[1:3])
        for top in tops:
            places = self._places(streams, len(lefts), candidates)
            for column, left in enumerate(lefts):
                area = (slice(None), slice(top, top + self.block), slice(left, left + self.block))
                known = self._known(top, left, self.size if before is not None else (0, 0))
                index = places[column][..., None, None] + self.offsets[:, None]
                blocks = self.table.values.take(index, axis=0)  # [n, K, B, B, C + 1]
                best = self._errors(blocks, canvas[area], self.guides[area], known, alpha).argmin(axis=1)
                block = blocks[np.arange(len(best)), best, :, :, :channels]
                new = self._new(_squares(block, canvas[area]).sum(axis=-1), top > 0, left > 0)
                canvas[area] = np.where(new[..., None], block, canvas[area])
        return canvas

    def _places(self, streams: Sequence[np.random.Generator], blocks: int, candidates: int) -> Whole:
        """Draw the candidates of one line of blocks, each image's from its own stream: [blocks, n, K] in the table."""
        drawn = np.stack([stream.random((blocks, candidates, 2)) for stream in streams], axis=1)
        sides = np.stack([self.table.heights[self.chosen], self.table.widths[self.chosen]], axis=1)
        corner = np.floor(drawn * (sides - self.block + 1)[:, None]).astype(np.int64)  # [blocks, n, K, 2]
        widths, starts = self.table.widths[self.chosen], self.table.starts[self.chosen]
        places: Whole = starts[:, None] + corner[..., 0] * widths[:, None] + corner[..., 1]
        return places

    def _known(self, top: int, left: int, before: tuple[int, int]) -> Flags:
        """Return which pixels of a block [B, B] are laid already, by this pass or by the pass `before` [H, W]."""
        known = np.zeros((self.block, self.block), dtype=bool)
        known[: max(0, before[0] - top), : max(0, before[1] - left)] = True
        known[: self.overlap if top else 0] = True
        known[:, : self.overlap if left else 0] = True
        return known

    def _errors(self, blocks: Pixels, canvas: Pixels, guide: Pixels, known: Flags, alpha: Floats) -> Floats:
        """Return the weighed errors [n, K] of candidate blocks [n, K, B, B, C + 1]."""
        wanted = np.concatenate([canvas, guide[..., None]], axis=-1)[:, None]
        picked = np.zeros((*known.shape, blocks.shape[-1], 2))  # which of a block's numbers count for which error
        picked[..., :-1, 0] = known[..., None]
        picked[..., -1, 1] = 1
        sums = _squares(blocks, wanted).reshape(*blocks.shape[:2], -1) @ picked.reshape(-1, 2)  # [n, K, 2]
        overlap, luma = sums[..., 0] / max(1.0, picked[..., 0].sum()), sums[..., 1] / known.size
        errors: Floats = alpha[:, None] * overlap + (1 - alpha[:, None]) * luma
        return errors

    def _new(self, errors: Floats, above: bool, beside: bool) -> Flags:
        """Return where the new block is taken [n, B, B]: right of the left cut and below the upper one."""
        new = np.ones(errors.shape, dtype=bool)
        strips = [errors[:, :, : self.overlap]] if beside else []
        strips += [errors[:, : self.overlap].transpose(0, 2, 1)] if above else []
        if strips:
            cuts = np.split(cheapest_cut(np.concatenate(strips)), len(strips))
            places = np.arange(self.block)
            if beside:
                new &= places >= cuts[0][:, :, None]
            if above:
                new &= places[:, None] >= cuts[-1][:, None, :]
        return new


def _squares(one: Pixels, other: Pixels) -> Floats:
    difference: Floats = np.subtract(one, other, dtype=np.float64)
    return np.square(difference, out=difference)


def _covering(side: int, block: int, step: int) -> int:
    return block + -(-max(0, side - block) // step) * step


def _extended(values: Pixels, sides: Sequence[int]) -> Pixels:
    """Repeat the last row and column of [n, H, W, ...] up to the given sides."""
    pads = [(0, 0), *((0, side - have) for side, have in zip(sides, values.shape[1:3], strict=True))]
    pads += [(0, 0)] * (values.ndim - 3)
    return np.pad(values, pads, mode="edge")
