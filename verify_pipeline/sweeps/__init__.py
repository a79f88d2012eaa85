"""Many runs of one recipe: sweeps over a grid, tunings, and the comparison of their fronts."""
