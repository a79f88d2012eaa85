"""Time and memory of a certification against images, width, ε and domains.

    python benchmarks/scaling.py [--out results] [--models models] [--sweeps images,…] [--fresh]

Every point is measured in a process of its own, with one thread: processor seconds and wall seconds
of `certify_set` after a first image that warms up, and by how much the resident memory grew at its
peak. Points go into OUT/scaling.csv as they are measured; the same command continues there. Then
OUT/scaling.md and one OUT/scaling-SWEEP.svg for each sweep are written (matplotlib: `.[plots]`).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from verify_pipeline import data
from verify_pipeline.attacks.falsify import FalsifySettings, falsify
from verify_pipeline.bounds import (
    MemoryBudget,
    crown_intermediate,
    crown_margins,
    interval_bounds,
)
from verify_pipeline.branching import SearchSettings
from verify_pipeline.certify import CertifySettings, certify_set
from verify_pipeline.certify.boxes import exact_box
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.specifications import LinearRows
from verify_pipeline.data import ImageSet
from verify_pipeline.network import zoo
from verify_pipeline.onnx import Network, load_network, network_from_module
from verify_pipeline.problem import Specification

TRAINED = "mnist-0.1-conv-small-cc-ibp"
BOUNDING = ("clean", "ibp", "crown", "alpha-crown")
SWEEPS: dict[str, tuple[float, ...]] = {
    "images": (1, 3, 10, 30, 100, 300, 1000, 3000, 10000),
    "copies": (30, 90, 300, 900, 3000, 9000),
    "memory": (10, 100, 1000, 10000),
    "width": (0.25, 0.5, 1, 2),
    "epsilon": (0.02, 0.05, 0.1, 0.15, 0.2, 0.25),
    "domains": (4, 16, 64, 256, 1024),
}
"""What is varied, and its values."""

NUMBERS = ("images", "copies", "memory")
"""Sweeps over numbers of images."""

MEANING = {
    "images": f"{TRAINED}, ε = 0.1, the first so many test images, all stages, the usual memory",
    "copies": f"{TRAINED}, ε = 0.1, the first 30 test images over and over, so that every number "
    "of images has the same share of hard ones; all stages",
    "memory": f"{TRAINED}, ε = 0.1, the first so many test images, all stages, 256 MiB",
    "width": "conv-small with fresh weights, ε = 2/255, 64 images, up to α-CROWN; the width "
    "multiplies channels and neurons",
    "epsilon": f"{TRAINED}, 200 images, all stages, 5 seconds for each image",
    "domains": "conv-small of half width with fresh weights, ε = 4/255, 8 images, the label "
    "against its closest rival with an offset that leaves a twentieth of the gap between CROWN's "
    "bound and an attack; all stages, at most so many domains for an image",
}
USUAL, SMALL = 2048, 256
"""MiB that a batch may take."""


@dataclass(frozen=True)
class Point:
    """A measurement.

    Attributes:
        sweep: what is varied.
        value: to what.
        images: that were certified.
        decided: of these.
        domains: that branch and bound looked at.
        seconds: of the processor.
        wall: seconds that passed.
        grown: MiB by which the resident memory was larger at its peak than before.
        memory: MiB that a batch may take, as the certification was told.
    """

    sweep: str
    value: float
    images: int
    decided: int
    domains: int
    seconds: float
    wall: float
    grown: float
    memory: int


Job = tuple[Network, ImageSet, CertifySettings, Question]
USUAL_QUESTION = Question()


def job(sweep: str, value: float, models: Path) -> Job:
    """What is certified at a point of a sweep."""
    images = data.load("mnist", "test")
    if sweep == "width":
        network = fresh(value)
        labels = network.replay(images.pixels(slice(0, 64))).argmax(1)
        chosen = ImageSet("mnist", "test", images.images[:64], labels, 10)
        bounding = CertifySettings(epsilon=2 / 255, stages=BOUNDING, timeout=600.0)
        return network, chosen, bounding, USUAL_QUESTION
    if sweep == "domains":
        return hard(images, int(value))
    network = load_network(models / f"{TRAINED}.onnx")
    usual = CertifySettings(epsilon=0.1, timeout=60.0, memory=USUAL)
    if sweep in ("images", "memory"):
        memory = SMALL if sweep == "memory" else USUAL
        first = replace(usual, indices=f"0:{int(value)}", memory=memory)
        return network, images, first, USUAL_QUESTION
    if sweep == "copies":
        return network, images.subset(torch.arange(int(value)) % 30), usual, USUAL_QUESTION
    some = replace(usual, epsilon=value, indices="0:200", timeout=5.0)
    return network, images, some, USUAL_QUESTION


def fresh(width: float) -> Network:
    """conv-small as it is before training."""
    torch.manual_seed(0)
    module = zoo.build("conv-small", (1, 28, 28), 10, (0.1307,), (0.3081,), width=width)
    return network_from_module(module, (1, 28, 28))


def hard(images: ImageSet, domains: int) -> Job:
    """A question that takes many domains, however good bounds and attacks become."""
    network, epsilon = fresh(0.5), 4 / 255
    pixels = images.pixels(slice(0, 8))
    best = network.graph(pixels.double()).topk(2).indices
    eye = torch.eye(10, dtype=torch.float64)
    rows = (eye[best[:, 0]] - eye[best[:, 1]]).unsqueeze(1)
    chosen = ImageSet("mnist", "test", images.images[:8], best[:, 0], 10)
    settings = CertifySettings(epsilon=epsilon, timeout=600.0)
    box, spec = exact_box(pixels, epsilon), Specification(rows, torch.zeros(8, 1).double())
    wide = interval_bounds(network.graph, box)
    bounds = crown_intermediate(network.graph, box, wide, MemoryBudget())
    below = crown_margins(network.graph, box, spec, bounds).lower
    start = pixels.double()
    attacked = falsify(network.graph, box, shifted(spec, below), start, FalsifySettings(), range(8))
    above = attacked.margins.unsqueeze(1) + below
    asked = LinearRows(rows, -(above - (above - below) / 20))
    search = SearchSettings(max_domains=domains)
    return network, chosen, replace(settings, search=search), Question(specification=asked)


def shifted(spec: Specification, below: Tensor) -> Specification:
    """The rows less lower bounds of them: positive everywhere, so that an attack goes on."""
    return Specification(spec.rows, spec.offsets - below)


def measure(sweep: str, value: float, models: Path) -> Point:
    """Certify, in this process."""
    torch.set_num_threads(1)
    network, images, settings, question = job(sweep, value, models)
    certify_set(network, images, replace(settings, indices="0:1"), question=question)
    before, began, wall = _resident(), time.process_time(), time.perf_counter()
    summary = certify_set(network, images, settings, question=question)
    seconds, wall = time.process_time() - began, time.perf_counter() - wall
    counts = (re.fullmatch(r"(\d+) domains", record.detail) for record in summary.records)
    return Point(
        sweep,
        value,
        images=len(summary.records),
        decided=len(summary.records) - summary.tally.undecided,
        domains=sum(int(count[1]) for count in counts if count),
        seconds=seconds,
        wall=wall,
        grown=max(_peak() - before, 0.0),
        memory=settings.memory,
    )


def _resident() -> float:
    """MiB of this process that are in memory now; where the system does not say, their peak."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / (1 << 20)
    return _peak()


def _peak() -> float:
    """The most MiB of this process that were ever in memory."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def in_a_process(sweep: str, value: float, models: Path) -> Point:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--models", str(models), "--one", sweep, str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Point(**json.loads(done.stdout.splitlines()[-1]))


def read(path: Path) -> list[Point]:
    """The points of a file, none if it is not there."""
    if not path.is_file():
        return []
    kinds = {
        field.name: {"str": str, "int": int, "float": float}[str(field.type)]
        for field in fields(Point)
    }
    with path.open(newline="") as file:
        return [
            Point(**{name: kinds[name](text) for name, text in row.items()})
            for row in csv.DictReader(file)
        ]


def append(path: Path, point: Point) -> None:
    """Add a point to a file."""
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Point)])
        if new:
            writer.writeheader()
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(point).items()}
        writer.writerow(rounded)


def page(points: list[Point], command: str) -> str:
    """All points as Markdown."""
    lines = ["# Scaling", ""]
    for sweep in SWEEPS:
        chosen = sorted((p for p in points if p.sweep == sweep), key=lambda p: p.value)
        if not chosen:
            continue
        lines += [
            f"## {sweep}",
            "",
            f"{MEANING[sweep]}.",
            "",
            f"![{sweep}](scaling-{sweep}.svg)",
            "",
        ]
        lines += [
            f"| {'asked' if sweep in NUMBERS else sweep} | images | decided | domains | "
            f"processor s | ms {each_of(sweep)} | grown MiB |",
            "|---:|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {p.value:g} | {p.images} | {p.decided} | {p.domains} | {p.seconds:.2f} | "
            f"{cost(p):.2f} | {p.grown:.0f} |"
            for p in chosen
        ]
        lines += ["", *verdicts(sweep, chosen)]
    lines += [
        "One thread; each point in a process of its own, after a first image that warms up. "
        "*Grown*: by how much resident memory was larger at its peak than before. "
        f"Generated by `{command}`.",
        "",
    ]
    return "\n".join(lines)


def each_of(sweep: str) -> str:
    """What a cost is for."""
    return "a domain" if sweep == "domains" else "an image"


def cost(point: Point) -> float:
    """Processor milliseconds for each image, or for each domain."""
    count = point.domains if point.sweep == "domains" else point.images
    return 1000 * point.seconds / max(count, 1)


def verdicts(sweep: str, points: list[Point]) -> list[str]:
    """What the points of a sweep over numbers of images show."""
    if sweep not in NUMBERS:
        return []
    most = max(points, key=lambda point: point.grown)
    memory = (
        f"Memory grows by {most.grown:.0f} MiB at most (at {most.images} images), of {most.memory} "
        "MiB that a batch may take."
    )
    if sweep != "copies":  # elsewhere it counts which images they are
        return [memory, ""]
    each = [cost(point) for point in points]
    pairs = zip(points[1:], each[1:], each, strict=False)
    worst, where = max(((now / before, p.images) for p, now, before in pairs))
    return [
        f"From one line to the next the cost of an image grows at most {worst:.2f} times (at "
        f"{where} images); of the fewest images it is {each[0] / min(each):.1f} times the least. "
        f"{memory}",
        "",
    ]


def plot(sweep: str, points: list[Point], path: Path) -> None:
    """Seconds for each image (or domain) and memory of a sweep."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "scaling"  # the same points give the same file
    from matplotlib import pyplot as plt

    points = sorted(points, key=lambda point: point.value)
    values = [point.value for point in points]
    costs = [cost(point) for point in points]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot(values, costs, "o-")
    left.set_ylabel(f"processor ms {each_of(sweep)}")
    right.plot(values, [point.grown for point in points], "o-")
    if sweep in NUMBERS:
        right.axhline(points[0].memory, linestyle="--", color="grey")
    right.set_ylabel("memory grown, MiB")
    for axes in (left, right):
        axes.set_xlabel({"domains": "domains allowed", "epsilon": "ε"}.get(sweep, sweep))
        axes.set_ylim(bottom=0)
        if sweep != "epsilon":
            axes.set_xscale("log")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Measure what is missing, then write the page and the plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--sweeps", default=",".join(SWEEPS))
    parser.add_argument("--fresh", action="store_true", help="measure everything anew")
    parser.add_argument("--one", nargs=2, metavar=("SWEEP", "VALUE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        point = measure(options.one[0], float(options.one[1]), options.models)
        print(json.dumps(asdict(point)))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "scaling.csv"
    if options.fresh:
        path.unlink(missing_ok=True)
    done: dict[tuple[str, float], Any] = {(p.sweep, p.value): p for p in read(path)}
    for sweep in options.sweeps.split(","):
        for value in SWEEPS[sweep]:
            if (sweep, value) not in done:
                point = in_a_process(sweep, value, options.models)
                append(path, point)
                print(point, flush=True)
    points = read(path)
    (options.out / "scaling.md").write_text(page(points, "python benchmarks/scaling.py"))
    for sweep in {point.sweep for point in points}:
        chosen = [point for point in points if point.sweep == sweep]
        plot(sweep, chosen, options.out / f"scaling-{sweep}.svg")


if __name__ == "__main__":
    main()
