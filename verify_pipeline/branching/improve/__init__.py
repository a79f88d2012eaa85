"""Better bounds of a subproblem than those that splits give."""
