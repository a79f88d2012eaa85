"""The search on a VNN-COMP network, against the verdicts that the competition's tools agreed on."""

from __future__ import annotations

import csv
import re
import tarfile
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from tests.branching.searching import Asked, in_order, query_of
from verify_pipeline.bounds import OptimiseSettings
from verify_pipeline.branching import BranchingSettings, SearchSettings
from verify_pipeline.branching.search.portfolio import relu_search
from verify_pipeline.onnx import load_network
from verify_pipeline.problem import Box, Counterexample, Specification, Status

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
    settings = SearchSettings(
        batch=256,
        domain=OptimiseSettings(iterations=10, lr_alpha=0.1, lr_beta=0.1),
        branching=BranchingSettings(candidates=5),
    )

    def replay(place: int, point: Tensor) -> Counterexample | None:
        output = network.replay(point.unsqueeze(0))
        margin = float(spec[place : place + 1].values(output).min())
        return Counterexample(point, output[0], margin) if margin <= 0 else None

    query = query_of(Asked(network.graph, box, spec))
    found = in_order(relu_search(query, settings, replay, perf_counter).run(), COUNT)
    assert [one.status for one in found] == [ANSWER[row["verdict"]] for row in known]
    points = {n: one.counterexample.input for n, one in enumerate(found) if one.counterexample}
    assert points
    assert all(bool(box[n : n + 1].contains(x.unsqueeze(0))) for n, x in points.items())
