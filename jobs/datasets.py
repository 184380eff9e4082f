"""Printing where an image came from, for the commands that read a data set."""

from typing import Any

from jobs.terminal import say


def show_origin(row: dict[str, Any]) -> None:
    """Print the source row of an image, its steps, and its gate scores."""
    label = "" if row["label"] is None else f", label {row['label']}"
    say(f"sample  {row['sample_id']}, branch {row['branch']}, copy {row['copy_index']}{label}")
    if row["source_uri"]:
        user_id = f" (id {row['source_id']})" if row["source_id"] else ""
        say(f"source  {row['source_uri']} row {row['source_row']}{user_id}")
    for step in row["steps"]:
        model = f" with {step['model_id']}" if step["model_id"] else ""
        say(f"step    {step['operator']} v{step['version']}{model} {step['params']} seed {step['seed']}")
    if row["quality"]:
        scores = ", ".join(f"{score['gate']} {score['score']:.4g}" for score in row["quality"])
        ended = f"refused by {row['rejected_reason']}" if row.get("rejected_reason") else "kept"
        say(f"scores  {scores}: {ended}, attempt {row['attempt'] + 1}")
    for partner in row["partners"]:
        say(f"partner {partner['role']} {partner['source_uri']}")
