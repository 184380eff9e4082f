"""How each embedded file was made: one script a kind, which gives the same bytes when it is run again."""
