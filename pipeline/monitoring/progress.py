"""The progress of a run on stderr, and its summary at the end."""

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from pipeline.execution.watermarking import UNMARKABLE
from pipeline.messages import counted, one_line
from pipeline.plan import Plan
from pipeline.shards.output.counts import CountSums
from schemas.manifest import Counts, Failure, Manifest, UnitRecord

LINE_EVERY_S = 10.0
"""Seconds between lines of progress where stderr is not a terminal."""
MAX_FAILURES = 5
"""Failed units that the summary names at most."""
MAX_REASONS = 8
"""Reasons that one line names at most."""
REJECTED_SHARE = 0.05
"""Share of rejected images from which on the summary gives a branch's reasons."""
HINTS = {UNMARKABLE: "use png, a higher output.quality, larger images or a lower watermark.psnr_db"}
"""Remedies by reason of rejection."""


class Progress:
    """Shows a bar on a terminal, and a line every `LINE_EVERY_S` elsewhere; writes nothing to stdout.

    Args:
        done: what earlier runs made, by branch.
        actors: workers that run at the same time; without it the busy share is that of the time spent in units.
    """

    def __init__(
        self,
        plan: Plan,
        done: Mapping[str, CountSums] | None = None,
        actors: int | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        shown: bool = True,
    ) -> None:
        self._copies = {branch.name: max(1, branch.copies) for branch in plan.branches}
        self._all, self._ended_units = len(plan.units), 0
        self.total = sum(plan.images(branch) for branch in plan.branches)
        self.earlier = 0
        for branch, sums in (done or {}).items():
            self.earlier += self._weight(branch, sums.rows)
            self._ended_units += sums.units
        self.now = 0  # weight of units that ended in this run, failed ones included
        self.images = 0  # made in this run: accepted, rejected, or refused and made again
        self.failed = 0  # units that failed in this run
        self.failures: list[Failure] = []  # the first of them, as many as the summary names
        self._actors = actors
        self._units_s = self._busy_s = 0.0
        self._stream = stream or sys.stderr
        self._clock, self._shown = clock, shown
        self._started = self._printed = clock()
        self._ended: float | None = None
        self._bar: Any = None  # tqdm, on a terminal

    def __enter__(self) -> "Progress":
        self._started = self._printed = self._clock()
        if self._shown and self._stream.isatty():
            self._bar = tqdm(
                total=self.total,
                initial=self.earlier,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}% |{bar}|{postfix}",
            )
            self._bar.set_postfix_str("starting")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended = self._clock()
        if self._bar is not None:
            self._bar.close()
        elif self._shown and self.now and self._printed > self._started:
            print(self.line(), file=self._stream, flush=True)

    def add(self, outcome: UnitRecord | Failure) -> None:
        """Count a unit that ended."""
        weight = self._weight(outcome.branch, outcome.rows)
        self.now += weight
        self._ended_units += 1
        if isinstance(outcome, Failure):
            self.failed += 1
            if len(self.failures) < MAX_FAILURES:
                self.failures.append(outcome)
        else:
            self.images += outcome.accepted + outcome.rejected + outcome.retried
            self._units_s += outcome.seconds
            self._busy_s += outcome.busy_s
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(self._figures()), refresh=False)
            self._bar.update(weight)
        elif self._shown and self._clock() - self._printed >= LINE_EVERY_S:
            self._printed = self._clock()
            print(self.line(), file=self._stream, flush=True)

    def _weight(self, branch: str, rows: int) -> int:
        """Return what rows count for in bar and time left: the images they may become."""
        return rows * self._copies.get(branch, 1)

    @property
    def seconds(self) -> float:
        """Wall time of this run so far, or in all once it has ended."""
        return (self._clock() if self._ended is None else self._ended) - self._started

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def busy(self) -> float:
        """Share of time, 0 to 1, that workers spent inside operators."""
        whole = self._units_s if self._actors is None else self._actors * self.seconds
        return min(1.0, self._busy_s / whole) if whole > 0 else 0.0

    def line(self) -> str:
        """Return the state as one plain line."""
        return ", ".join(self._figures())

    def _figures(self) -> list[str]:
        figures = [
            f"{self._ended_units}/{self._all} units",
            f"{self.images} images",
            f"{self.images_per_s:.1f} images/s",
        ]
        figures.append(f"busy {self.busy:.0%}")
        if self.failed:
            figures.append(f"{self.failed} failed")
        left = self.total - self.earlier - self.now
        if left > 0 and self.now and self.seconds > 0:
            figures.append(f"{duration(left * self.seconds / self.now)} left")
        return figures


def duration(seconds: float) -> str:
    """Return `8 s`, `3 min 20 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def summary(manifest: Manifest, progress: Progress, output: str, partial: bool = False) -> str:
    """Return the summary of a run: counts by branch, speed, failed units, and the place of the data set.

    Args:
        partial: only some branches or units were asked for.
    """
    width = max([len(name) for name in manifest.branches] + [len("in all")])
    lines = [f"{'branch':<{width}} {'asked':>9} {'accepted':>9} {'rejected':>9} {'quarantined':>12}"]
    rows = list(manifest.branches.items())
    lines += [_counts(name, counts, width) for name, counts in rows]
    if len(rows) > 1:
        lines.append(_counts("in all", manifest.counts, width))
    if manifest.counts.retried:
        lines.append(f"{manifest.counts.retried} more were refused by gates and made again; they are in rejected/, too")
    for name, counts in rows:
        lines += _rejections(name, counts)
        lines += _quarantined(name, counts)
    if progress.images:
        lines.append(
            f"{progress.images} images in {duration(progress.seconds)}: {progress.images_per_s:.1f} images/s, "
            f"workers inside operators {progress.busy:.0%} of the time"
        )
    lines += _failures(progress, manifest.failed, output)
    if not manifest.complete and not manifest.failed:
        without = ", without --only and --units," if partial else ""
        lines.append(f"not complete; the same command{without} goes on where this one ended")
    lines.append(f"data set: {output}")
    return "\n".join(lines)


def _counts(name: str, counts: Counts, width: int) -> str:
    figures = f"{counts.asked:>9} {counts.accepted:>9} {counts.rejected:>9} {counts.quarantined:>12}"
    return f"{name:<{width}} {figures}"


def _rejections(name: str, counts: Counts) -> list[str]:
    """Return lines with a branch's reasons of rejection; empty where at most `REJECTED_SHARE` was rejected."""
    if counts.rejected <= REJECTED_SHARE * counts.asked:
        return []
    reasons = reason_counts(counts.reasons) or "see rejected/"
    lines = [f"{name}: {counts.rejected} of {counts.asked} images were rejected: {reasons}"]
    return lines + [f"  {reason}: {hint}" for reason, hint in HINTS.items() if counts.reasons.get(reason)]


def _quarantined(name: str, counts: Counts) -> list[str]:
    if not counts.quarantined:
        return []
    reasons = reason_counts(counts.quarantine_reasons) or "see quarantine/"
    return [f"{name}: {counts.quarantined} of {counts.selected} rows are in quarantine: {reasons}"]


def reason_counts(reasons: Mapping[str, int]) -> str:
    """Return reasons with their counts as text, the most frequent first: `blank 12, unmarkable 3`."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    more = f", {len(ordered) - MAX_REASONS} more" if len(ordered) > MAX_REASONS else ""
    return ", ".join(f"{one_line(reason, 80)} {times}" for reason, times in ordered[:MAX_REASONS]) + more


def _failures(progress: Progress, failed: list[str], output: str) -> list[str]:
    reasons = {failure.unit: failure.error.splitlines()[0] for failure in progress.failures if failure.error}
    names = list(dict.fromkeys([failure.unit for failure in progress.failures] + failed))
    if not names:
        return []
    total = max(progress.failed, len(names))
    lines = [f"{counted(total, 'unit')} failed; tracebacks are in {output}/_failed/, the same command tries again:"]
    lines += [f"  {name}: {reasons.get(name, 'in an earlier run')}" for name in names[:MAX_FAILURES]]
    if total > MAX_FAILURES:
        lines.append(f"  and {total - MAX_FAILURES} more")
    return lines
