"""`python -m jobs ...`, equal to `palimpsest ...`."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while modules load: Ctrl-C ends it without a page of source lines

from jobs.cli import main

sys.exit(main())
