"""The parts of ``benchmarks/accelerator.py``; see there."""
