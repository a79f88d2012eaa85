"""The sets of VNN-COMP that several benchmarks use, and which of their instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from verify_pipeline.interop.instance_list import Answer, Key, SetInstance, read_instances
from verify_pipeline.interop.sets import Result, SetJob, run_set

SETS = {
    "acasxu": "2022/acasxu/instances.csv",
    "mnist_fc": "2022/mnist_fc/instances.csv",
    "cifar10_resnet": "2021/cifar10_resnet/cifar10_resnet_instances.csv",
    "vit": "2023/vit/instances.csv",
}
"""Lists of instances, in a folder of VNN-COMP's sets."""


def unsat_instances(
    listed: Path, count: int, job: SetJob
) -> tuple[Sequence[SetInstance], Sequence[SetInstance], Mapping[Key, Result]]:
    """Decide instances of a set, evenly spread over its list, until so many are unsat.

    Returns:
        The instances that were decided, those that are unsat, and all results.
    """
    every = read_instances(listed)
    chosen: list[SetInstance] = []
    unsat: list[SetInstance] = []
    results: Mapping[Key, Result] = {}
    for instance in every[:: max(1, len(every) // (2 * count))]:
        if len(unsat) == count:
            break
        chosen.append(instance)
        results = run_set(chosen, job)
        unsat = [one for one in chosen if results[one.key].answer is Answer.UNSAT]
    return chosen, unsat, results
