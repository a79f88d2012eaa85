"""Bounds, scores and candidate counterexamples of subproblems."""
