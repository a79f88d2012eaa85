"""Branch and bound over ReLUs, intervals and inputs, for many images at once."""

from verify_pipeline.branching.config.abcrown_schema import SearchFile, read_search
from verify_pipeline.branching.config.search_settings import (
    AttackChoice,
    BranchingSettings,
    SearchSettings,
)
from verify_pipeline.branching.exact.lp_leaf import Leaf, lp_leaf
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.search.ways import InputSplitRoom, search

__all__ = [
    "AttackChoice",
    "BranchingSettings",
    "InputSplitRoom",
    "Leaf",
    "SearchFile",
    "SearchQuery",
    "SearchSettings",
    "lp_leaf",
    "read_search",
    "search",
]
