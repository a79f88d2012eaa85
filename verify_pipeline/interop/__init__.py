"""Third-party networks and properties: VNN-LIB files, counterexample files, VNN-COMP sets."""

from verify_pipeline.interop.answers import Decided
from verify_pipeline.interop.counterexamples import (
    read_counterexample,
    replay_counterexample,
    write_counterexample,
)
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.instance_list import Answer, read_instances, read_reference
from verify_pipeline.interop.max_of_rows import AnyOf, append_any_of
from verify_pipeline.interop.properties import Case, Conjunction, VnnlibProperty
from verify_pipeline.interop.sets import compare, run_set
from verify_pipeline.interop.vnnlib import parse_vnnlib, read_vnnlib
from verify_pipeline.interop.writer import vnnlib_text, write_vnnlib

__all__ = [
    "Answer",
    "AnyOf",
    "Case",
    "Conjunction",
    "Decided",
    "VnnlibProperty",
    "append_any_of",
    "compare",
    "decide",
    "parse_vnnlib",
    "property_plan",
    "read_counterexample",
    "read_instances",
    "read_reference",
    "read_vnnlib",
    "replay_counterexample",
    "run_set",
    "vnnlib_text",
    "write_counterexample",
    "write_vnnlib",
]
