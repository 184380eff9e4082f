"""Entry points: the command line, training, benches."""
