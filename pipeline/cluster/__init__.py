"""The only room that knows Ray: actors, engine, progress."""
