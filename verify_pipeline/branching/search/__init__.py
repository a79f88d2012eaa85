"""The search, and its kinds of splits."""
