"""Branch and bound over ReLU splits, for many images at once."""

from verify_pipeline.branching.accounts import Found
from verify_pipeline.branching.exact import ExactMargin, milp_margin
from verify_pipeline.branching.leaf import Leaf, lp_leaf
from verify_pipeline.branching.schema import SearchFile, read_search
from verify_pipeline.branching.search import search
from verify_pipeline.branching.settings import AttackChoice, BranchingSettings, SearchSettings

__all__ = [
    "AttackChoice",
    "BranchingSettings",
    "ExactMargin",
    "Found",
    "Leaf",
    "SearchFile",
    "SearchSettings",
    "lp_leaf",
    "milp_margin",
    "read_search",
    "search",
]
