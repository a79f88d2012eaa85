"""Networks as graphs of operations, and the architectures that can be trained."""
