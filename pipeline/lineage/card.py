"""The data set card: a README.md that Hugging Face shows, and that makes `datasets.load_dataset(folder)` work."""

import yaml

from pipeline.lineage.markdown import code, inert
from schemas.manifest import Manifest


def dataset_card(manifest: Manifest) -> str:
    """Return `README.md` of a data set: front matter that names its data files, and its counts by branch."""
    counts = manifest.counts
    front = {
        "pretty_name": "Palimpsest augmented images",
        "task_categories": ["image-classification"],
        "tags": ["image", "augmented", "palimpsest"],
        "size_categories": [_size_category(counts.accepted)],
        "configs": [{"config_name": "default", "data_files": "data/*.parquet"}],
    }
    rows = [
        f"| {code(name)} | {inert(_chain(manifest, name))} "
        f"| {c.asked} | {c.accepted} | {c.rejected} | {c.quarantined} |"
        for name, c in manifest.branches.items()
    ]
    classes = f"\nClasses: {', '.join(map(inert, manifest.classes))}.\n" if manifest.classes else ""
    missing = manifest.units - counts.units
    state = "complete" if manifest.complete else f"**incomplete**: {missing} units are missing"
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n"
        "# Augmented images, with lineage\n\n"
        f"Made by Palimpsest {inert(manifest.palimpsest)} with seed {manifest.recipe['seed']}; {state}.\n{classes}\n"
        "| branch | operators | asked | accepted | rejected | rows quarantined |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + _reasons(manifest)
        + "\n\nEvery row says which source row, operators, drawn values, models and seeds it was made with "
        "(`source_uri`, `source_row`, `steps`, `partners`). The IPTC term in `digital_source_type` tells made "
        "images from source images.\n\n"
        '```python\nfrom datasets import load_dataset\n\nrows = load_dataset("<this folder>", split="train")\n```\n\n'
        "`palimpsest verify <this folder>` checks every byte and link; "
        "`palimpsest replay <this folder> --sample-id ID` makes an image again.\n" + _proofs(manifest)
    )


def _reasons(manifest: Manifest) -> str:
    """Return a table of the reasons of rejected images and quarantined rows; empty without any."""
    rows = [
        f"| {code(name)} | {what} | {code(reason)} | {times} |"
        for name, counts in manifest.branches.items()
        for what, reasons in (
            ("images rejected", counts.reasons),
            ("rows quarantined", counts.quarantine_reasons),
        )
        for reason, times in reasons.items()
    ]
    head = "\n\n| branch | what | reason | count |\n|---|---|---|---|\n"
    return head + "\n".join(rows) if rows else ""


def _proofs(manifest: Manifest) -> str:
    """Return a text on what marks and the seal prove."""
    seal = (
        "\n`provenance/seal.json`, where it is there, is an HMAC over every commit record and published file: with the "
        "key of the run, `verify --key-file` says whether anything changed. It proves nothing to whoever has no key.\n"
    )
    if manifest.watermark is None:
        return seal
    return (
        "\nEvery made image carries an invisible mark that leads the holder of the key back to its row. It shows where "
        "an image comes from where nobody means to mislead: whoever holds images with and without marks can put a "
        f"mark on another image, or take it off. A mark alone is evidence against nobody.\n{seal}"
    )


def _chain(manifest: Manifest, branch: str) -> str:
    chain = next((chain for chain in manifest.chains if chain["name"] == branch), None)
    return " → ".join(step["operator"] for step in chain["steps"]) if chain and chain["steps"] else "none"


def _size_category(rows: int) -> str:
    for bound, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < bound:
            return name
    return "1M<n<10M" if rows < 10_000_000 else "n>10M"
