"""`python -m jobs.train KIND CONFIG`: exit 0 when trained, 2 with one line on stderr when the input is wrong."""

import sys

from jobs.train import train
from pipeline.errors import JobError


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m jobs.train KIND CONFIG", file=sys.stderr)
        return 2
    try:
        return train(arguments[0], arguments[1])
    except JobError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
