"""Interval bound propagation, and decisions about a graph that follow from intervals."""
