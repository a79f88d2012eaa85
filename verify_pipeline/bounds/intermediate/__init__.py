"""Intermediate bounds: bounds of the neurons inside a network."""
