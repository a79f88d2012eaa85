"""α,β-CROWN as a second engine: a separate program in its own environment.

It is run as a subprocess on generated files; none of it is imported here. Its counterexamples are
replayed like all others. Its proofs are float32 computations that this package cannot check: an
instance that it calls safe is VERIFIED *by α,β-CROWN*, which ledgers and tables keep apart.
"""

from verify_pipeline.engines.abcrown import Engine, ToolAnswer
from verify_pipeline.engines.job import ToolQuestion
from verify_pipeline.engines.process import Limits
from verify_pipeline.engines.stage import AbcrownStage, Setup
from verify_pipeline.engines.statuses import ToolClaim, read_status
from verify_pipeline.engines.tool import Tool, find_tool

__all__ = [
    "AbcrownStage",
    "Engine",
    "Limits",
    "Setup",
    "Tool",
    "ToolAnswer",
    "ToolClaim",
    "ToolQuestion",
    "find_tool",
    "read_status",
]
