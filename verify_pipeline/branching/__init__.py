"""Branch and bound over ReLU splits, for many images at once."""

from verify_pipeline.branching.schema import SearchFile, read_search
from verify_pipeline.branching.settings import AttackChoice, BranchingSettings, SearchSettings

__all__ = [
    "AttackChoice",
    "BranchingSettings",
    "SearchFile",
    "SearchSettings",
    "read_search",
]
