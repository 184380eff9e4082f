"""`python -m jobs ...`, equal to `palimpsest ...`."""

import sys

from jobs.cli import main

sys.exit(main())
