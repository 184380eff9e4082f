"""Fuzzing in processes of its own: `python -m tests.chaos.fuzz [--seed N] [--images 10000] [--shards 1000] ...`.

Whatever ends a process, a native crash or a case without end, is told with the seed and the index that made it. One
case again: `python -m tests.chaos.cases KIND SEED INDEX 1 "$(mktemp -d)"`.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.processes import descendants, kill_all

ROOT = Path(__file__).resolve().parent.parent.parent
CASES = "tests.chaos.cases"
BATCHES = {"images": 500, "shards": 50, "recipes": 200}
"""Cases of one process."""
BATCH_S = 300.0
"""Seconds of one process."""
MEMORY_BYTES = 16 << 30
"""Address space of one process."""


def fuzz(kind: str, seed: int, count: int) -> list[str]:
    """Run cases [0, count) of a kind; return a line for everything that is wrong."""
    findings: list[str] = []
    first = 0
    while first < count:
        many = min(BATCHES[kind], count - first)
        with tempfile.TemporaryDirectory(prefix="palimpsest-fuzz-") as name:
            ended, said = _in_a_process(kind, seed, first, many, Path(name))
            findings += said
            if ended:
                at = int((Path(name) / "at").read_text() or first) if (Path(name) / "at").exists() else first
                findings.append(f"{kind} {at}: {ended}")
                many = max(1, min(at + 1 - first, many))
        first += many
    return findings


def _in_a_process(kind: str, seed: int, first: int, count: int, folder: Path) -> tuple[str, list[str]]:
    """Return what ended the process early (empty: nothing), and the lines that it printed."""
    case = [sys.executable, "-X", "faulthandler", "-m", CASES, kind, str(seed), str(first), str(count)]
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [*case, str(folder)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=BATCH_S)
            ended = ""
        except subprocess.TimeoutExpired:
            kill_all([*descendants(process.pid), process.pid])
            out, _ = process.communicate()
            ended = f"no end after {BATCH_S:.0f} s"
    if not ended and process.returncode < 0:
        ended = f"ended by {signal.Signals(-process.returncode).name}"
    elif not ended and process.returncode > 0:
        last = (folder / "stderr").read_text(errors="replace").strip().splitlines()[-1:]
        ended = f"ended with {process.returncode}: {last}"
    return ended, out.splitlines()


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    for kind, count in {"images": 10_000, "shards": 1_000, "recipes": 1_000}.items():
        options.add_argument(f"--{kind}", type=int, default=count, metavar="CASES")
    given = vars(options.parse_args())
    seed, wrong = given.pop("seed"), 0
    print(f"seed {seed}", flush=True)
    for kind, count in given.items():
        began = time.monotonic()
        findings = fuzz(kind, seed, count)
        print(*findings, sep="\n", end="\n" if findings else "")
        print(f"{kind}: {count} cases, {len(findings)} findings, {time.monotonic() - began:.0f} s", flush=True)
        wrong += len(findings)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
