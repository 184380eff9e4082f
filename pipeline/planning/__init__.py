"""From a recipe to what there is to do: files found, parts read, rows selected, costs estimated. No torch, no Ray."""
