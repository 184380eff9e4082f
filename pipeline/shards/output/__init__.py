"""Where a data set lives, and how a unit is committed there."""
