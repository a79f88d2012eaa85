"""VNN-COMP boxes as arrays and constraints as rows: `certify` answers as the reference does."""

from __future__ import annotations

import tarfile
from pathlib import Path

import torch

from verify_pipeline import api, data
from verify_pipeline.interop.instance_list import Answer, read_reference
from verify_pipeline.interop.text_files import read_network
from verify_pipeline.interop.vnnlib import read_vnnlib

MEANS = {api.Status.VERIFIED: Answer.UNSAT, api.Status.FALSIFIED: Answer.SAT}


def test_mnist_fc(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "vnncomp" / "vnncomp_2022_mnist_fc.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / "2022" / "mnist_fc"
    reference = read_reference(shared_data / "vnncomp" / "2022__mnist_fc.csv")
    name = "mnist-net_256x2.onnx"
    keys = sorted((key for key in reference if name in key.onnx and "0.03" in key.vnnlib), key=str)[
        :8
    ]
    network = read_network(folder / keys[0].onnx)
    (cases,) = zip(*(read_vnnlib(folder / key.vnnlib).cases for key in keys), strict=True)
    shape = network.input_shape
    boxes = api.BoxSet(
        "mnist_fc",
        "boxes",
        torch.stack([case.lower.reshape(shape) for case in cases]),
        torch.stack([case.upper.reshape(shape) for case in cases]),
    )
    rows = api.LinearRows(
        torch.stack([torch.cat([one.rows for one in case.denials]) for case in cases]),
        torch.stack([torch.cat([one.offsets for one in case.denials]) for case in cases]),
    )
    settings = api.CertifySettings(epsilon=0.0, timeout=2.0)
    found = api.certify(network, boxes, settings, question=api.Question(specification=rows))
    decided = {
        key: MEANS[record.status]
        for key, record in zip(keys, found.records, strict=True)
        if record.status in MEANS
    }
    assert len(decided) >= 4
    for key, answer in decided.items():
        assert reference[key].answer in (answer, Answer.UNKNOWN, Answer.TIMEOUT)

    images = data.load("mnist", "test", root=shared_data)
    seen = api.certify(
        network, images, api.CertifySettings(epsilon=0.0, indices=":200", stages=("clean",))
    )
    assert seen.tally.right >= 190
    assert shape != images.shape
