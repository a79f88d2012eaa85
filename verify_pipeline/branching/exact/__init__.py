"""Linear programs of subproblems without unstable neurons."""
