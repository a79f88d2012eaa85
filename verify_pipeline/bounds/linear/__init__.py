"""Linear functionals walked backward through a relaxed graph."""
