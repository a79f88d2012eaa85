"""Linear relaxations of nonlinear operations, a file for each kind."""
