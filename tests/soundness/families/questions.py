"""Perturbations, specifications and preprocessing on tiny images, by brute force.

Each image's box is made again here, exactly, from its pixels and ε. Its corners and random pixels
go through preprocessing written here, in float32 and in float64, and then through onnxruntime.
VERIFIED is false if pixels in the box break the specification in both, by more than rounding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np
import torch
from numpy.random import Generator

from tests.soundness.asking import packed
from tests.soundness.building import FileBuilder, choice, normal
from tests.soundness.contract import Answer, Array, Family, Judged
from tests.soundness.replaying import outputs_of
from verify_pipeline import api
from verify_pipeline.certify.perturbations import Perturbation
from verify_pipeline.certify.preprocessing import Layout
from verify_pipeline.certify.specifications import OutputSpecification
from verify_pipeline.errors import VerifyPipelineError
from verify_pipeline.onnx import network_from_bytes

IMAGES, SECONDS, CLASSES, SAMPLES = 12, 0.2, 4, 300
DOUBT = 1e-4
"""Margins within this of zero are left to rounding."""

SHAPES = ((1, 2, 2), (3, 1, 2), (2, 2, 1), (4,), (6,))


@dataclass(frozen=True, eq=False)
class _Asked:
    """A specification, as the package is asked it and as it is computed here.

    Attributes:
        specification: the package's.
        margin: of one output ``K`` of the image at a place; at most zero iff it breaks.
    """

    specification: OutputSpecification
    margin: Callable[[Array, int], float]


def _specification(rng: Generator, labels: Array) -> _Asked:
    kind = int(rng.integers(4))
    if kind == 0:
        return _Asked(
            api.Margins(), lambda f, n: float(f[labels[n]] - np.delete(f, labels[n]).max())
        )
    if kind == 1:
        k = int(rng.integers(1, CLASSES))
        return _Asked(
            api.TopK(k), lambda f, n: float(f[labels[n]] - np.sort(np.delete(f, labels[n]))[-k])
        )
    if kind == 2:
        targets = (labels + rng.integers(1, CLASSES, len(labels))) % CLASSES
        return _Asked(
            api.Targeted(torch.from_numpy(targets)),
            lambda f, n: float(f[labels[n]] - f[targets[n]]),
        )
    matrix = rng.normal(size=(len(labels), 2, CLASSES))
    offsets = rng.uniform(0, 2, (len(labels), 2))
    return _Asked(
        api.LinearRows(torch.from_numpy(matrix), torch.from_numpy(offsets)),
        lambda f, n: float((matrix[n] @ f + offsets[n]).min()),
    )


def _perturbation(rng: Generator, shape: tuple[int, ...]) -> tuple[Perturbation, Array]:
    """The package's, and each pixel's ε."""
    size = choice(rng, (0.003, 0.02, 0.1, 0.4))
    kind = int(rng.integers(3))
    if kind == 0 or (kind == 1 and len(shape) == 1):
        return api.LinfBall(size), np.full(shape, size)
    if kind == 1:
        each = tuple(float(one) for one in rng.uniform(0, size, shape[0]))
        wide = np.array(each)[:, None, None]
        return api.ChannelBalls(each), np.broadcast_to(wide, shape)
    epsilons = rng.uniform(0, size, shape) * (rng.random(shape) < 0.7)
    return api.PixelBalls(torch.from_numpy(epsilons)), epsilons


@dataclass(frozen=True, eq=False)
class _Pipeline:
    """What is done to pixels, written again.

    Attributes:
        mean: of one number, of each channel, or empty.
        std: as many.
        last: whether channels come last in the network's input.
        wanted: the network's input shape.
    """

    mean: Array
    std: Array
    last: bool
    wanted: tuple[int, ...]

    def __call__(self, pixels: Array) -> Array:
        """The network's input of pixels ``N x *X``, computed in their type."""
        x = pixels
        if self.mean.size:
            place = (1, -1, *[1] * (x.ndim - 2)) if self.mean.size > 1 else (1,) * x.ndim
            mean, std = (
                one.astype(np.float32).reshape(place).astype(x.dtype)
                for one in (self.mean, self.std)
            )
            x = (x - mean) / std
        if self.last:
            x = x.transpose(0, 2, 3, 1)
        return x.reshape(len(x), *self.wanted)


def _pipeline(rng: Generator, shape: tuple[int, ...]) -> tuple[api.Preprocessing, _Pipeline]:
    count = 0 if rng.random() < 0.3 else choice(rng, (1, shape[0] if len(shape) == 3 else 1))
    mean, std = rng.uniform(0, 1, count), rng.uniform(0.1, 2, count)
    last = len(shape) == 3 and rng.random() < 0.5
    flat = rng.random() < 0.4 and len(shape) == 3
    moved = (shape[1], shape[2], shape[0]) if last else shape
    wanted = (int(np.prod(shape)),) if flat else moved
    layout: Layout | None = None
    if len(shape) == 3:
        layout = "nhwc" if last else "nchw"
    asked = api.Preprocessing(tuple(mean.tolist()), tuple(std.tolist()), layout)
    return asked, _Pipeline(mean, std, last, wanted)


@dataclass(frozen=True, eq=False)
class QuestionTrial:
    """Images with a question.

    Attributes:
        name: of what is asked.
        model: the file.
        pixels: ``N x *X`` float32 in [0, 1].
        labels: ``N``.
        epsilons: ``*X``.
        question: as the package is asked.
        margin: as it is computed here.
        pipeline: from pixels to the network's input.
        samples: shares of the box ``P x *X``, from 0 to 1.
    """

    name: str
    model: bytes
    pixels: Array
    labels: Array
    epsilons: Array
    question: api.Question
    margin: Callable[[Array, int], float]
    pipeline: _Pipeline
    samples: Array

    def judged(self) -> list[Judged]:
        """Ask about all images in one batch."""
        labels = torch.from_numpy(self.labels)
        images = api.ImageSet("battery", "test", torch.from_numpy(self.pixels), labels, CLASSES)
        settings = api.CertifySettings(epsilon=0.0, timeout=SECONDS)
        try:
            network = network_from_bytes(self.model)
            with api.Ledger.in_memory() as ledger:
                summary = api.certify(
                    network, images, settings, question=self.question, ledger=ledger
                )
                run, records = summary.info.run, summary.records
                found = [
                    (one, ledger.counterexample(run, one))
                    if one.status is api.Status.FALSIFIED
                    else (one, None)
                    for one in records
                ]
        except VerifyPipelineError as error:
            kind = f"refused: {type(error).__name__}"
            return [Judged(Answer.REFUSED, tags=(kind,))] * len(self.pixels)
        judged = []
        for record, counterexample in found:
            answer, n, lie = Answer(record.status.name.lower()), record.index, ""
            point: Array | None = None
            if answer is Answer.VERIFIED:
                point = self._refuting(n)
                lie = (
                    "VERIFIED, but a pixel value of the box breaks it" if point is not None else ""
                )
            elif counterexample is not None:
                point = np.asarray(counterexample.input.numpy())
                lie = self._unconfirmed(n, point)
            judged.append(Judged(answer, lie, files=self._files(n, lie, point) if lie else {}))
        return judged

    def _refuting(self, n: int) -> Array | None:
        """A point of the n-th box that breaks the specification beyond doubt."""
        exact = self.pixels[n].astype(np.float64)
        lower, upper = np.clip(exact - self.epsilons, 0, 1), np.clip(exact + self.epsilons, 0, 1)
        points = (lower + self.samples * (upper - lower)).astype(np.float32)
        single = outputs_of(self.model, self.pipeline(points))
        double = outputs_of(self.model, self.pipeline(points.astype(np.float64)))
        for point, one, other in zip(points, single, double, strict=True):
            worst = max(self.margin(f.astype(np.float64), n) for f in (one, other))
            if worst < -DOUBT and self._is_inside(n, point):
                return np.asarray(point)
        return None

    def _is_inside(self, n: int, point: Array) -> bool:
        """Whether a point is at most ε from the image and in [0, 1], without rounding."""
        each = zip(point.flat, self.pixels[n].flat, self.epsilons.flat, strict=True)
        return all(
            abs(Fraction(float(p)) - Fraction(float(x))) <= Fraction(float(e)) and 0 <= p <= 1
            for p, x, e in each
        )

    def _unconfirmed(self, n: int, point: Array) -> str:
        """Why a counterexample is none; empty: it is one.

        The package's boxes are those of float64 limits, which may lie a rounding further out.
        """
        exact = self.pixels[n].astype(np.float64)
        inside = (point >= exact - self.epsilons) & (point <= exact + self.epsilons)
        if not (inside & (point >= 0) & (point <= 1)).all():
            return "FALSIFIED by a point outside of the box"
        output = outputs_of(self.model, self.pipeline(point[None]))[0]
        if self.margin(output.astype(np.float64), n) > 0:
            return "FALSIFIED, but the pipeline's output at the point keeps the specification"
        return ""

    def _files(self, n: int, lie: str, point: Array | None) -> dict[str, bytes]:
        arrays = {"pixels": self.pixels[n], "epsilons": self.epsilons, "label": self.labels[n]}
        arrays |= {"mean": self.pipeline.mean, "std": self.pipeline.std}
        if point is not None:
            arrays["point"] = point
        said = {"name": self.name, "place": n, "lie": lie, "question": str(self.question)}
        return {
            "network.onnx": self.model,
            "question.npz": packed(arrays),
            "case.json": json.dumps(said).encode(),
        }


def _network(rng: Generator, shape: tuple[int, ...], gain: float) -> bytes:
    net, width = FileBuilder(shape), int(np.prod(shape))
    hidden = net.linear(net.add("Flatten", "x"), normal(rng, 8, width, gain=gain), normal(rng, 8))
    hidden = net.add(choice(rng, ("Relu", "Tanh", "LeakyRelu")), hidden)
    last = net.linear(hidden, normal(rng, CLASSES, 8, gain=2.0), normal(rng, CLASSES))
    return net.data(net.add("Softmax", last) if rng.random() < 0.2 else last)


def _trial(rng: Generator, number: int) -> QuestionTrial:
    shape = SHAPES[number % len(SHAPES)]
    preprocessing, pipeline = _pipeline(rng, shape)
    model = _network(rng, pipeline.wanted, 2.0)
    pixels = rng.uniform(0, 1, (IMAGES, *shape)).astype(np.float32)
    pixels[rng.random(pixels.shape) < 0.2] = choice(rng, (0.0, 1.0))
    right = outputs_of(model, pipeline(pixels)).argmax(1)
    labels = np.where(rng.random(IMAGES) < 0.9, right, rng.integers(0, CLASSES, IMAGES))
    asked = _specification(rng, labels)
    perturbation, epsilons = _perturbation(rng, shape)
    question = api.Question(perturbation, asked.specification, preprocessing)
    size = int(np.prod(shape))
    corners = np.array(list(product((0.0, 1.0), repeat=size))).reshape(-1, *shape)
    samples = np.concatenate([corners, rng.uniform(0, 1, (SAMPLES, *shape))])
    words = (type(perturbation).__name__, type(asked.specification).__name__)
    name = f"{', '.join(words)}, pixels {shape}, {preprocessing.name or 'as they are'}"
    return QuestionTrial(
        name, model, pixels, labels, epsilons, question, asked.margin, pipeline, samples
    )


FAMILY = Family("questions", _trial, share=2, least=40, small=8)
