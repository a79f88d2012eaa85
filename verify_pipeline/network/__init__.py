"""Networks as graphs of operations, and the architectures that recipes can train."""
