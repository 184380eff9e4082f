"""Spread-transform dither modulation: a keyed 64-bit mark in the low spectrum of an image's luma.

Source: Chen & Wornell, "Quantization index modulation" (IEEE Trans. IT 47(4), 2001): dither modulation (sec. IV-A),
its spread-transform form (sec. V-A) and distortion compensation (sec. III-B). The 64 bits are coded at rate 1/2
(`trellis`); each of the M = 128 coded bits b_i moves one projection p_i of the image (`lattice`) towards the lattice

    step * (integers + dither_i + b_i / 2)

by ALPHA of the way. A reader finds the phase of p_i in its cell, at the best of all steps of a fixed ladder, so it
has to know neither the step that the writer took nor how much brighter the image became; coefficients are relative to
the image (`spectrum`), so it has to know no size either. `confidence` computes the score of a reading. An image's bytes
depend on image, payload, key and psnr_db alone, on any device: all sums are exact.

Not survived: crops, rotation, a pass through a generative model; averaging very many images of one key.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pipeline.contracts import Pixels
from pipeline.watermark import confidence, matching, trellis
from pipeline.watermark.lattice import BANDS, RATE, TERMS, Lattice, band_of, lattice
from pipeline.watermark.payload import check, from_bits, to_bits
from pipeline.watermark.spectrum import LONGEST_SIDE, analyse, luma, on_grid, synthesise

ALPHA = 0.85  # distortion compensation: share of the way to the lattice; best for noise of 0.1 to 0.14 steps
FLOOR_DB = 34.0  # least PSNR of a marked image; one that would need more is unmarkable
RUNGS = range(-64, 33)  # steps are 2^(rung / 16) grey levels: 1/16 to 4, 97 of them
NEARBY = 4  # rungs around the right one among which the writer picks
SLACK = (1.0 - ALPHA) / 2.0  # cells between a projection and its lattice point, at most, once written
SURE_MAX, SURE_RMS = 0.2, 0.1  # cells: a written image is good when no projection is further off, and their rms is not
NEAR = 1.5 * SLACK  # cells: near enough to stop
RELAX = 1.8  # of the way in every later pass; over-relaxed projections meet sooner
PASSES = 24  # corrections for clipping at 0 and 255, at most
TRIES = 4  # steps tried for an image that clips
TOLERANCE_DB = 0.5
UNFIT_DB = 3.0  # how much less is tried where not all bits stood
RUNG_DB = 20 * math.log10(2) / 16
CLIPPING_RUNGS = 5
ROUNDING = 1.0 / 12.0  # mean square of rounding to whole grey levels
PIXELS_A_CHUNK = 1 << 19
GPU_PIXELS_A_CHUNK = 1 << 23  # small chunks would leave a GPU waiting for its next call
CANDIDATES = 4  # steps decoded for an image that the first does not read


class Embedded(NamedTuple):
    """`images` [N, H, W, C] uint8; `psnr_db` [N] as reached (inf: unchanged); `unmarkable` indexes, left alone."""

    images: Pixels
    psnr_db: npt.NDArray[np.float64]
    unmarkable: list[int]


class Reading(NamedTuple):
    """`payload`, None for no mark; `score`, -log10 of the false-positive bound; `tag_ok`: the word has its tag."""

    payload: int | None
    score: float
    tag_ok: bool


@dataclass(frozen=True)
class _Job:
    """Images of one size on the device on their way through `_write`."""

    planes: torch.Tensor  # [N, C, H, W] uint8
    half_bits: torch.Tensor  # [N, M] float64: 0 or half a cell
    start: torch.Tensor  # [N, M] projections of the images as they came

    def at(self, index: torch.Tensor) -> "_Job":
        return _Job(self.planes[index], self.half_bits[index], self.start[index])


class _Written(NamedTuple):
    """`planes` [N, C, H, W] uint8, `good` [N] bool, `psnr_db` [N] float64."""

    planes: torch.Tensor
    good: torch.Tensor
    psnr_db: torch.Tensor


class Stdm:
    """Writes and reads the mark of one key.

    Args:
        key: 16 bytes or more.
        psnr_db: distortion asked for; the step follows from it, image by image. A reader may have another one.
        device: `cpu` or `cuda`; it must have float64.
    """

    def __init__(self, key: bytes, psnr_db: float = 42.0, device: str = "cpu") -> None:
        self.key = key
        self.psnr_db = psnr_db
        self.device = torch.device(device)
        self._lattices: dict[int, Lattice] = {}

    def embed(self, images: Pixels, payloads: Sequence[int]) -> Embedded:
        """Mark N images of one size, [N, H, W, C] uint8 (C = 1 or 3), with N words of 64 bits.

        Unmarkable is an image of one colour, one with a side under 16 px or over 8192 px, and one in which not all
        coded bits can be set at 34 dB (nearly all of it at 0 or 255).

        Raises:
            ValueError: the shapes do not fit.
        """
        _check_shape(images)
        if len(payloads) != len(images):
            raise ValueError(f"payloads: {len(payloads)} for {len(images)} images")
        result, reached = images.copy(), np.full(len(images), np.inf)
        lost = set(range(len(images)))
        if _fits(images):
            plain = (images == images[:, :1, :1]).all(axis=(1, 2, 3))
            todo = np.flatnonzero(~plain)
            for part in self._parts(todo, images.shape[1] * images.shape[2]):
                written = self._write(images[part], [payloads[index] for index in part])
                kept = written.good.cpu().numpy()
                result[part[kept]] = written.planes.permute(0, 2, 3, 1).cpu().numpy()[kept]
                reached[part[kept]] = written.psnr_db.cpu().numpy()[kept]
                lost -= set(part[kept].tolist())
        return Embedded(result, reached, sorted(lost))

    def read(self, images: Pixels) -> list[Reading]:
        """Read N images of one size, [N, H, W, C] uint8, in the band of their own size."""
        _check_shape(images)
        if not _fits(images):
            return [Reading(None, 0.0, False)] * len(images)
        band = band_of(*images.shape[1:3])
        return [
            reading
            for part in self._parts(np.arange(len(images)), images.shape[1] * images.shape[2])
            for reading in self._read(images[part], band, len(RUNGS))
        ]

    def read_any(self, image: Pixels) -> Reading:
        """Read one image [H, W, C] uint8 of any origin, which may have been resized: tries every band it can hold."""
        _check_shape(image[None])
        if not _fits(image[None]):
            return Reading(None, 0.0, False)
        side, own = min(image.shape[:2]), band_of(*image.shape[:2])
        bands = sorted((band for band in BANDS if band <= side), key=lambda band: (band != own, -band))
        best = Reading(None, 0.0, False)
        for band in bands:
            best = max(best, self._read(image[None], band, len(RUNGS) * len(bands))[0], key=lambda found: found.score)
            if best.payload is not None:
                break
        return best

    def match(self, image: Pixels, samples: Iterable[npt.NDArray[np.uint8]], count: int) -> tuple[int | None, float]:
        """Find which of the known samples' words an image [H, W, C] uint8 carries, if `read_any` gives none.

        Args:
            samples: parts of [N, 16] uint8, the bytes of sample ids; read until one is a match.
            count: how many samples there are in all, at least.

        Returns:
            the word, None below a score of 6; and the score, which counts the samples; 0 where none came near.
        """
        _check_shape(image[None])
        if not _fits(image[None]) or not count:
            return None, 0.0
        bands = [band for band in BANDS if band <= min(image.shape[:2])]
        phases = torch.cat([self._phases(image[None], band)[0] for band in bands])
        return matching.match(self.key, torch.cos(2 * torch.pi * phases).to(torch.float32), samples, count)

    def _parts(self, indexes: npt.NDArray[np.intp], pixels: int) -> list[npt.NDArray[np.intp]]:
        chunk = PIXELS_A_CHUNK if self.device.type == "cpu" else GPU_PIXELS_A_CHUNK
        size = min(256, max(1, chunk // pixels))
        return [indexes[first : first + size] for first in range(0, len(indexes), size)]

    def _lattice(self, band: int) -> Lattice:
        if band not in self._lattices:
            self._lattices[band] = lattice(self.key, band, self.device)
        return self._lattices[band]

    def _projections(self, planes: torch.Tensor, band: int | None = None) -> torch.Tensor:
        """Return [N, M] projections of [N, C, H, W] uint8, in the band of their size unless another one is given."""
        height, width = planes.shape[2:]
        net = self._lattice(band_of(height, width) if band is None else band)
        return net.project(analyse(luma(planes), net.band), scale=float(height))

    def _planes(self, images: Pixels) -> torch.Tensor:
        """Return [N, C, H, W] on the device of [N, H, W, C]."""
        whole = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self.device)
        return whole.permute(0, 3, 1, 2).contiguous()

    def _write(self, images: Pixels, payloads: Sequence[int]) -> _Written:
        """Mark images with the step that comes nearest to `psnr_db`. Images that clip lose PSNR and are tried again."""
        coded = torch.from_numpy(trellis.encode(to_bits(payloads), RATE)).to(self.device, torch.float64)
        planes = self._planes(images)
        job = _Job(planes, coded / 2, self._projections(planes))
        rungs = self._first_rungs(job) - _clipping_cost(planes)
        done = self._write_at(job, rungs)
        again = torch.arange(len(planes), device=self.device)
        for _ in range(TRIES - 1):
            excess = torch.where(done.good, done.psnr_db - self.psnr_db, -UNFIT_DB)[again]
            again, excess = again[excess.abs() > TOLERANCE_DB], excess[excess.abs() > TOLERANCE_DB]
            if not len(again):
                break
            rungs[again] = (rungs[again] + _rungs_of(excess)).clamp(RUNGS[0], RUNGS[-1])
            tried = self._write_at(job.at(again), rungs[again])
            nearer = (tried.psnr_db - self.psnr_db).abs() < (done.psnr_db[again] - self.psnr_db).abs()
            better = tried.good & (nearer | ~done.good[again])
            for old, new in zip(done, tried, strict=True):
                old[again[better]] = new[better]
            again = again[better | ~done.good[again]]  # no better: it stays as it is
        return done._replace(good=done.good & (done.psnr_db >= min(FLOOR_DB, self.psnr_db - TOLERANCE_DB)))

    def _first_rungs(self, job: _Job) -> torch.Tensor:
        """Return [N] the rung of the largest step that keeps `psnr_db` if no pixel clips.

        A coefficient is an amplitude, so the mean square of the change is the sum of squares of the projections'
        moves.
        """
        asked = 255.0**2 / 10 ** (self.psnr_db / 10)
        step = max(12 * (asked - ROUNDING) / TERMS, 2.0**-8) ** 0.5 / ALPHA
        middle = min(max(round(16 * math.log2(step)), RUNGS[0] + NEARBY), RUNGS[-1] - NEARBY)
        near = range(middle - NEARBY, middle + NEARBY + 1)
        steps = torch.tensor([2.0 ** (rung / 16) for rung in near], dtype=torch.float64, device=self.device)
        move = ALPHA * _off(self._cells(job, steps[None, :, None])) * steps[:, None]
        spent = on_grid(move * move, 2.0**30).sum(dim=2) + ROUNDING  # [N, rungs near]
        fits = spent <= asked * 10**0.01
        place = torch.arange(len(near), device=self.device)
        return near[0] + torch.where(fits, place, 0).max(dim=1).values

    def _cells(self, job: _Job, steps: torch.Tensor) -> torch.Tensor:
        """Return [N, 1 or R, M] how many cells the projections at the start are from the lattice of their bits."""
        dither = self._lattice(band_of(*job.planes.shape[2:])).dither
        return job.start[:, None] / steps - dither - job.half_bits[:, None]

    def _write_at(self, job: _Job, rungs: torch.Tensor) -> _Written:
        """Move the projections of every image, step 2^(rung / 16); where pixels clip, again until all bits stand.

        Alternating projections (Bregman 1965) between the slabs "projection i is within SLACK of a lattice point of
        bit i", whose normals are orthonormal, and the box of pixels that a byte can hold.
        """
        net = self._lattice(band_of(*job.planes.shape[2:]))
        table = torch.tensor([2.0 ** (rung / 16) for rung in RUNGS], dtype=torch.float64, device=self.device)
        steps = table[rungs - RUNGS[0], None]
        planes, off = torch.empty_like(job.planes), _off(self._cells(job, steps[:, None])[:, 0])
        active = torch.arange(len(planes), device=self.device)
        part, step, move, change = job, steps, -ALPHA * off, None
        for _ in range(PASSES):
            push = synthesise(net.spread(move * step), *planes.shape[2:])
            change = push if change is None else change.add_(push)
            made = change.round().to(torch.int16)[:, None].add(part.planes).clamp_(0, 255).to(torch.uint8)
            now = _off(self._projections(made) / step - net.dither - part.half_bits)
            planes[active], off[active] = made, now
            left = (now.abs().amax(dim=1) > NEAR).nonzero()[:, 0]
            if not len(left):
                break
            active, part, step, now = active[left], part.at(left), step[left], now[left]
            room = 255 - part.planes.amin(1)
            change = torch.minimum(torch.maximum(change[left], -part.planes.amax(1).to(torch.float64)), room)
            move = RELAX * (now.clamp(-SLACK, SLACK) - now)
        good = (off.abs().amax(dim=1) <= SURE_MAX) & (on_grid(off * off, 2.0**40).mean(dim=1) <= SURE_RMS**2)
        return _Written(planes, good, _psnr_db(planes, job.planes))

    def _phases(self, images: Pixels, band: int) -> torch.Tensor:
        """Return [N, R, M] places of the projections, in cells, for each of the R steps of the ladder."""
        seen = self._projections(self._planes(images), band)
        steps = torch.tensor([2.0 ** (rung / 16) for rung in RUNGS], dtype=torch.float64, device=self.device)
        return seen[:, None] / steps[:, None] - self._lattice(band).dither

    def _read(self, images: Pixels, band: int, hypotheses: int) -> list[Reading]:
        """Decode at the step whose lattice is met best; where that gives no mark, at the next three."""
        phases = self._phases(images, band)
        closeness, order = torch.cos(4 * torch.pi * phases).mean(dim=2).topk(CANDIDATES, dim=1)
        every = torch.arange(len(images), device=self.device)
        readings = self._decode(phases[every, order[:, 0]], closeness[:, 0].cpu().numpy(), hypotheses)
        todo = [index for index, reading in enumerate(readings) if reading.payload is None]
        if todo:
            further = every[todo].repeat_interleave(CANDIDATES - 1)
            met = closeness[todo, 1:].reshape(-1).cpu().numpy()
            found = self._decode(phases[further, order[todo, 1:].reshape(-1)], met, hypotheses)
            for index, reading in zip(further.tolist(), found, strict=True):
                readings[index] = max(readings[index], reading, key=lambda reading: reading.score)
        return readings

    def _decode(self, phases: torch.Tensor, closeness: npt.NDArray[np.float64], hypotheses: int) -> list[Reading]:
        """Decode [N, M] phases at one step each."""
        soft = torch.cos(2 * torch.pi * phases)
        bits = trellis.decode(soft, RATE)
        agreement = (soft.cpu().numpy() * (1.0 - 2.0 * trellis.encode(bits, RATE))).mean(axis=1)
        scores = confidence.score(agreement, closeness, TERMS, hypotheses)
        tags = [check(self.key, word) for word in from_bits(bits)]
        return [
            Reading(word if tag and score >= confidence.THRESHOLD else None, float(score) if tag else 0.0, tag)
            for word, tag, score in zip(from_bits(bits), tags, scores, strict=True)
        ]


def _off(cells: torch.Tensor) -> torch.Tensor:
    """Return the signed distance to the nearest integer, in [-0.5, 0.5]."""
    return cells - torch.round(cells)


def _rungs_of(decibels: torch.Tensor) -> torch.Tensor:
    """Return [N] int64 number of rungs, at least one, for a difference in dB; a rung is 0.376 dB."""
    return torch.sign(decibels).to(torch.int64) * (decibels.abs() / RUNG_DB).round().clamp(1, 16).to(torch.int64)


def _clipping_cost(planes: torch.Tensor) -> torch.Tensor:
    """Return [N] int64 rungs to start lower if much of an image is black or white: the rest must carry more."""
    full = ((planes == 0) | (planes == 255)).flatten(1).sum(dim=1)
    return full * CLIPPING_RUNGS // planes[0].numel()


def _psnr_db(planes: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Return [N] float64 PSNR over all channels, of peak 255: whole numbers and one logarithm, so no device differs."""
    error = planes.to(torch.int32).sub_(source)
    rows = error.mul_(error).sum(dim=3, dtype=torch.int32)
    mean = rows.sum(dim=(1, 2)).to(torch.float64) / source[0].numel()
    values = [10 * math.log10(255.0**2 / value) if value else math.inf for value in mean.tolist()]
    return torch.tensor(values, dtype=torch.float64, device=planes.device)


def _fits(images: Pixels) -> bool:
    return band_of(*images.shape[1:3]) > 0 and max(images.shape[1:3]) <= LONGEST_SIDE


def _check_shape(images: Pixels) -> None:
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(f"images: expected uint8 [N, H, W, 1 or 3], found {images.dtype} {list(images.shape)}")
