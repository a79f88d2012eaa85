"""Linear relaxations of nonlinear operations, one file for each kind."""
