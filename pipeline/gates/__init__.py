"""How good images are: gates that keep or refuse what was made."""
