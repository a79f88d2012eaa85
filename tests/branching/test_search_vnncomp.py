"""The search on a VNN-COMP network, against the verdicts that the competition's tools agreed on."""

from __future__ import annotations

import csv
import re
import tarfile
from pathlib import Path

import torch

from verify_pipeline.bounds import (
    MemoryBudget,
    OptimiseSettings,
    crown_intermediate,
    interval_bounds,
)
from verify_pipeline.branching import BranchingSettings, SearchSettings
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.relu_split import search
from verify_pipeline.onnx import load_network
from verify_pipeline.problem import Box, Specification, Status

COUNT = 16
ANSWER = {"unsat": Status.VERIFIED, "sat": Status.FALSIFIED}


def read_property(path: Path) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Limits of the inputs and the label of a property of the set mnist_fc."""
    text = path.read_text(encoding="utf-8")
    limits = {"<=": torch.zeros(784), ">=": torch.zeros(784)}
    for side, place, value in re.findall(r"\(assert \((<=|>=) X_(\d+) ([-\d.e]+)\)\)", text):
        limits[side][int(place)] = float(value)
    (label,) = set(re.findall(r"\(and \(>= Y_\d+ Y_(\d+)\)\)", text))
    return limits[">="], limits["<="], int(label)


def test_mnist_fc_gets_the_verdicts_of_the_competition(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "vnncomp"
    with (folder / "2022__mnist_fc.csv").open(encoding="utf-8") as file:
        known = [row for row in csv.DictReader(file) if row["onnx"].endswith("256x2.onnx")][:COUNT]
    with tarfile.open(folder / "vnncomp_2022_mnist_fc.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    here = tmp_path / "2022" / "mnist_fc"
    network = load_network(here / known[0]["onnx"])
    lower, upper, labels = zip(*(read_property(here / row["vnnlib"]) for row in known), strict=True)
    shape = (COUNT, *network.graph.input_shape)
    box = Box(torch.stack(lower).view(shape), torch.stack(upper).view(shape))
    spec = Specification.margins(torch.tensor(labels), 10)
    exact, box64 = network.graph.to(torch.float64), box.to(torch.float64)
    root = crown_intermediate(exact, box64, interval_bounds(exact, box64), MemoryBudget())
    settings = SearchSettings(
        batch=256,
        domain=OptimiseSettings(iterations=10, lr_alpha=0.1, lr_beta=0.1),
        branching=BranchingSettings(candidates=5),
    )
    deadlines = Deadlines.alone(torch.full((COUNT,), 1e6))
    found = {f.instance: f for f in search(network.graph, box, spec, root, settings, deadlines)}
    assert [found[n].status for n in range(COUNT)] == [ANSWER[row["verdict"]] for row in known]
    for n, end in found.items():
        if end.point is not None:
            margins = spec[n : n + 1].values(network.replay(end.point.unsqueeze(0)))
            assert float(margins.min()) <= 0
