"""Images per second of one operator: this product, a plain Ray Data script and a bare loop over the same shards."""

import datetime
import sys
from typing import Any


def measure(name: str, input_uri: str | None = None, rounds: int = 3, rows: int | None = None) -> dict[str, Any]:
    """Return the figures of one bench, over `rows` rows instead of the case's own number where given."""
    from jobs.bench.comparison import figures, run_contestants
    from jobs.bench.contestants.task import BATCH, CASES, JPEG_QUALITY, WORKERS, Task
    from jobs.bench.inputs import given_shards, reference_models, repeated_shards, synthetic_shards
    from jobs.bench.machine import commit, machine, versions

    case = CASES[name]
    rows = rows or case.rows
    print(f"bench {name}: getting the input ready", file=sys.stderr)
    folder = given_shards(input_uri, rows) if input_uri else synthetic_shards(case, rows)
    models = reference_models(case) if case.operator == "adain" else None
    folder = repeated_shards(folder, case.times) if case.times > 1 else folder
    extras = {"encoding": case.encoding, "originals": case.originals}
    task = Task(case.operator, str(folder), "", case.size_px, models, **extras)
    found = figures(run_contestants(task, rounds))
    if name == "adain":
        from jobs.bench import style_256px

        found["at_256_px"] = style_256px.measure(input_uri, rounds)
    return {
        "bench": name,
        **found,
        "machine": machine(),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "input": "rows of --input, resized and centre-cropped" if input_uri else "made from a seed",
        "settings": {
            "size_px": case.size_px, "workers": WORKERS, "threads": 1, "peers_batch": BATCH,
            "jpeg_quality": JPEG_QUALITY, "encoding": case.encoding, "keep_originals": case.originals,
        },
        "versions": versions(),
    }  # fmt: skip


def as_text(found: dict[str, Any]) -> str:
    """Return the figures as a small table."""
    lines = [f"{found['rows']} rows, {found['rounds']} rounds, {found['machine']}, commit {found['commit'][:12]}", ""]
    lines.append(f"{'':<12}{'images/s':>10}{'spread':>9}{'palimpsest is':>16}{'peak memory':>14}")
    for name, speed in found["images_per_s"].items():
        ratio = f"{found['ratio'][name]:.2f} x it" if name in found["ratio"] else ""
        memory = found["peak_memory_mib"][name]["rss"]
        lines.append(f"{name:<12}{speed:>10.1f}{found['spread'][name]:>9.0%}{ratio:>16}{memory:>10.0f} MiB")
    if "at_256_px" in found:
        from jobs.bench.style_256px import as_lines

        lines += ["", *as_lines(found["at_256_px"])]
    return "\n".join(lines)
