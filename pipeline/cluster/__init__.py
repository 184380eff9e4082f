"""Running units on Ray: the connection, scheduling, actors, and what watches over them. Ray is imported here alone."""
