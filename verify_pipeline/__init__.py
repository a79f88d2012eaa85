"""Train neural networks that can be verified, and certify networks on whole data sets.

The Python API is :mod:`verify_pipeline.api`, the command line ``verify-pipeline``.
"""

from verify_pipeline._version import __version__

__all__ = ["__version__"]
