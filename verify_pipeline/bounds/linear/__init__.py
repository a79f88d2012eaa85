"""Backward bound propagation: linear functionals walk backwards through a relaxed graph."""
