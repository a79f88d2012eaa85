"""Time, work and progress of a search."""
