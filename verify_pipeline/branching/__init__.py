"""Branch and bound over ReLU splits, for many images at once."""

from verify_pipeline.branching.config.abcrown_schema import SearchFile, read_search
from verify_pipeline.branching.config.search_settings import (
    AttackChoice,
    BranchingSettings,
    SearchSettings,
)
from verify_pipeline.branching.exact.lp_leaf import Leaf, lp_leaf
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.search.relu_split import search

__all__ = [
    "AttackChoice",
    "BranchingSettings",
    "Found",
    "Leaf",
    "SearchFile",
    "SearchSettings",
    "lp_leaf",
    "read_search",
    "search",
]
