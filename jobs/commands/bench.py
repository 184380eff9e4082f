"""`palimpsest bench`: this product, a plain Ray Data script and a bare loop over the same shards, side by side."""

import argparse
import json

from jobs.arguments import add_json

HELP = "this product and its peers side by side, in one run"
NAMES = ("light", "light-long", "light-png", "adain", "diffusion", "codec", "profile")
ROUNDS = 3


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", choices=NAMES, help=", ".join(NAMES))
    command.add_argument("--input", metavar="URI", help="shards to use instead of the bench's own images")
    add_json(command)


def call(options: argparse.Namespace) -> int:
    """Run one bench and print its figures."""
    return bench(options.name, options.input, options.json)


def bench(name: str, input_uri: str | None, as_json: bool) -> int:
    """Run one bench and print its figures: medians over ROUNDS rounds taken in turn; return 0.

    Args:
        name: `light`; `light-long`, its shards eight times; `light-png`, with `keep_originals` and PNG out, the peers
            at Pillow's default level; `adain`; `diffusion`; `codec`, the most that decoding and encoding allow;
            `profile`, where the time of a unit goes (one round).
        input_uri: shards to take the rows from, resized and centre-cropped by all contestants alike where they have
            another size; images made from a seed if None. For `diffusion`: real images to test on. Without effect for
            `codec` and `profile`.

    Raises:
        JobError: the input cannot be used, or a contestant failed.
    """
    if name == "diffusion":
        from jobs.bench import diffusion

        found, text = diffusion.measure(input_uri, ROUNDS), diffusion.as_text
    elif name == "codec":
        from jobs.bench import codec

        found, text = codec.measure(ROUNDS), codec.as_text
    elif name == "profile":
        from jobs.bench import profile

        found, text = profile.measure(), profile.as_text
    else:
        from jobs.bench import throughput

        found, text = throughput.measure(name, input_uri, ROUNDS), throughput.as_text
    print(json.dumps(found) if as_json else text(found))
    return 0
