"""Making one unit: windows of rows, the chain, gates, the watermark, output rows; and the worker that tries a unit."""
