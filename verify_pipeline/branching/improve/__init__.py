"""Bounds of subproblems that are better than those from splits alone."""
