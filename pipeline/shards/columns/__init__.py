"""What the columns of the input are: image, label, id, classes, annotations, one schema."""
