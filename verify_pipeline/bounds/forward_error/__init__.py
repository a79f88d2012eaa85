"""How far a file's evaluation in a floating-point arithmetic is from its exact function."""

from verify_pipeline.bounds.forward_error.computed import Computed
from verify_pipeline.bounds.forward_error.functions import LIBRARY, greatest_softmax_tie
from verify_pipeline.bounds.forward_error.sharper import sharper_row_errors
from verify_pipeline.bounds.forward_error.walk import computed_values, covering, refusal, row_errors

__all__ = [
    "LIBRARY",
    "Computed",
    "computed_values",
    "covering",
    "greatest_softmax_tie",
    "refusal",
    "row_errors",
    "sharper_row_errors",
]
