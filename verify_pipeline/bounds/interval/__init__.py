"""Interval bounds, and what intervals tell about a graph."""
