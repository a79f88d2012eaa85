"""Attacks: inputs of a box at which a network does badly, for training and for certification."""
