"""Names and labels of classes, and what asks for them."""
