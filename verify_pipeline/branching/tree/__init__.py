"""Subproblems, how they are split, and the frontier of open ones."""
