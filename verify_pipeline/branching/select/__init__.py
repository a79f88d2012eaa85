"""Which neuron or input a subproblem is split at."""
