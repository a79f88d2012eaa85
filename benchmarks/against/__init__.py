"""What `benchmarks/against_abcrown.py` is made of; see there."""
