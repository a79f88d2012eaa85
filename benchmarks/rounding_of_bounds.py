"""What rounding takes from CROWN's bounds of the properties of VNN-COMP sets.

    python benchmarks/rounding_of_bounds.py INSTANCES.csv … [--every 1]

Each property is bounded by CROWN over its whole box, where values are largest, with and without the
rounding of the last walk. A verdict can only be lost where the bound without it is above zero and
the bound with it is not.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from verify_pipeline.bounds import MemoryBudget, crown_intermediate, interval_bounds
from verify_pipeline.bounds.linear.backward import lower_bounds, of_margins
from verify_pipeline.bounds.relaxations.relaxed_graph import linearise
from verify_pipeline.bounds.relaxations.rounding import NO_ROUNDING
from verify_pipeline.interop.instance_list import SetInstance, read_instances
from verify_pipeline.interop.text_files import read_network
from verify_pipeline.interop.vnnlib import read_vnnlib
from verify_pipeline.problem import Specification


def bounds_of(instance: SetInstance) -> Iterator[tuple[float, float]]:
    """The bound of each row, without and with the rounding of the last walk."""
    network = read_network(instance.onnx, check_parity=False)
    graph = network.graph.to(torch.float64)
    for case in read_vnnlib(instance.vnnlib).cases:
        rows = torch.cat([one.rows for one in case.denials]).unsqueeze(0).double()
        offsets = torch.cat([one.offsets for one in case.denials]).unsqueeze(0).double()
        box = case.box(graph.input_shape, network.input_dtype).to(torch.float64)
        bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
        linear = linearise(graph, box, bounds)
        margins = of_margins(graph, Specification(rows, offsets))
        plain = lower_bounds(replace(linear, rounding=NO_ROUNDING), box, margins).lower
        rounded = lower_bounds(linear, box, margins).lower
        yield from zip(plain.flatten().tolist(), rounded.flatten().tolist(), strict=True)


@torch.no_grad()
def main() -> None:
    """Print a row of a table for each set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("lists", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=1, help="every n-th instance only")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    names = ("instances", "rows", "lost, median", "greatest", "of a bound > 0", "no longer > 0")
    print("| set | " + " | ".join(names) + " |")
    print("|---|" + "---:|" * len(names))
    for path in asked.lists:
        chosen = read_instances(path)[:: asked.every]
        rows = [pair for instance in chosen for pair in bounds_of(instance)]
        lost = [plain - rounded for plain, rounded in rows]
        proved = [(plain, rounded) for plain, rounded in rows if plain > 0]
        greatest = max((plain - rounded for plain, rounded in proved), default=0.0)
        turned = sum(rounded <= 0 for _, rounded in proved)
        print(
            f"| {path.parent.name} | {len(chosen)} | {len(rows)} | {statistics.median(lost):.1e} "
            f"| {max(lost):.1e} | {greatest:.1e} | {turned} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
