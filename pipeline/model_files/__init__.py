"""From a reference in a recipe to a local file with a sha256, and what such files hold."""
