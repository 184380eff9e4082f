"""`python -m jobs.bench.gpu`: every figure that needs a GPU, each beside the loop users write, as one JSON object."""
