"""Other people's networks and properties: VNN-LIB files, counterexample files, VNN-COMP sets."""
