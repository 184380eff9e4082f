"""Class names and labels of the input, and checks of the operators and gates that use them."""
