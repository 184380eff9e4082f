"""The commands of `palimpsest`, one module each.

A command module has `HELP` (one line), `add_arguments(command)` and `call(options)`, which returns the exit status.
Its modules are imported inside `call`, so that `--help` loads no pandas, no torch and no Ray.
"""
