"""What one unit goes through: windows of rows, the chain, gates, marks, output rows."""
