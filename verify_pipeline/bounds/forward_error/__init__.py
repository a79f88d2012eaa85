"""How far a file's evaluation in a floating-point arithmetic is from its exact function."""

from verify_pipeline.bounds.forward_error.computed import Computed
from verify_pipeline.bounds.forward_error.functions import GREATEST_SOFTMAX_TIE, LIBRARY
from verify_pipeline.bounds.forward_error.sharper import sharper_row_errors
from verify_pipeline.bounds.forward_error.walk import computed_values, covering, refusal, row_errors

__all__ = [
    "GREATEST_SOFTMAX_TIE",
    "LIBRARY",
    "Computed",
    "computed_values",
    "covering",
    "refusal",
    "row_errors",
    "sharper_row_errors",
]
