"""Bounds of the neurons inside a network."""
