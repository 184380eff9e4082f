"""`palimpsest status`: how far a data set is, what failed, and who is at work there."""

import argparse
import json
from typing import TYPE_CHECKING

from jobs.arguments import add_json

if TYPE_CHECKING:
    from pipeline.publishing.status import DatasetStatus

HELP = "how far a data set is, what failed, and who is at work there; also while a run goes on"
SHOWN = 10
"""Failed units that are named at most; `--json` names more."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("dataset", metavar="DATASET")
    add_json(command)


def call(options: argparse.Namespace) -> int:
    """Print the status. Return 0 where it is complete or a run is at work, 1 where neither is."""
    import palimpsest
    from jobs.terminal import say, show

    found = palimpsest.status(options.dataset)
    if options.json:
        show(json.dumps(found.as_dict(), indent=1))
    else:
        for line in _lines(found):
            say(line)
    return 0 if found.ok else 1


def _lines(found: "DatasetStatus") -> list[str]:
    from pipeline.messages import counted, one_line
    from pipeline.monitoring.progress import duration, reason_counts

    lines = [f"{found.state}: {found.done} of {counted(found.planned, 'unit')} done, {found.failed} failed"]
    for name, branch in found.branches.items():
        counts, planned = branch.counts, "?" if branch.planned is None else branch.planned
        figures = f"{counts.units}/{planned} units, {counts.accepted} images accepted, {counts.rejected} rejected"
        reasons = reason_counts({**counts.reasons, **counts.quarantine_reasons})
        lines.append(f"branch  {name}: {figures}, {counted(counts.quarantined, 'row')} in quarantine")
        lines += [f"reasons {name}: {reasons}"] if reasons else []
    lines += [f"failed  {failure.unit}: {one_line(failure.error, 200)}" for failure in found.failures[:SHOWN]]
    if found.failed > SHOWN:
        lines.append(f"failed  and {found.failed - SHOWN} more")
    if (driver := found.driver) is not None:
        lines.append(f"driver  process {driver.pid} on {driver.host}, since {driver.since}")
        speed = f"{driver.images_per_s:.1f} images/s, {driver.units_per_min:.1f} units a minute"
        lines.append(f"speed   {speed}, over the last {duration(driver.over_s)}")
    elif not found.ok:
        lines.append("note    nobody is at work there; the same command goes on where it ended")
    return lines
