"""Training of the models that operators use: one module a kind of model, all on Ray Train."""
