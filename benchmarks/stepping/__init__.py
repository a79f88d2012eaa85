"""Training steps to be measured: this package's, an independent one, and the plain work in them."""
