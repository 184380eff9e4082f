"""`replay`: one image made again from its lineage, and compared."""

from jobs.commands.dataset import open_dataset, show_origin
from jobs.terminal import say
from pipeline.watermark_key import read_key


def replay(dataset: str, sample: str, key_file: str | None) -> int:
    """`palimpsest replay DATASET --sample-id ID`: 0 equal, 1 different."""
    from pipeline.audit.replay import replay_sample

    made = replay_sample(open_dataset(dataset), sample, read_key(key_file))
    row = made.stored
    show_origin(row)
    if made.equal:
        say("equal   byte for byte")
        return 0
    for column in made.differs:
        say(f"differs {column}: {made.stored[column]} is stored, {made.again[column]} was made")
    say(f"differs by up to {made.grey_levels} grey levels")
    if made.other_device:
        say(f"made on {made.made_on}, and again on {made.again_on}: on another device last bits may differ")
    return 1
