"""What is free in a relaxation, and its ascent."""
