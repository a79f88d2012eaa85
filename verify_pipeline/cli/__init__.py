"""The command line: arguments to :mod:`verify_pipeline.pipeline`, results to the terminal."""

from verify_pipeline.cli.app import main

__all__ = ["main"]
