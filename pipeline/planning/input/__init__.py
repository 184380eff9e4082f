"""The input as `plan` reads it: shards, columns, first rows."""
