"""Lists of instances and of reference verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from verify_pipeline.errors import DataError
from verify_pipeline.interop.instance_list import (
    Answer,
    Key,
    Reference,
    read_instances,
    read_reference,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("nets/a.onnx", "nets/b.onnx.gz", "specs/p.vnnlib"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "instances.csv"
    path.write_text(text)
    return path


def test_names_with_and_without_their_ending(folder: Path) -> None:
    path = write(
        folder,
        "./nets/a.onnx.gz,specs/p.vnnlib,300\r\n\r\nnets/b.onnx, ./specs/p.vnnlib.gz,0.5\r\n",
    )
    first, second = read_instances(path)
    assert (first.onnx, first.vnnlib) == (folder / "nets/a.onnx", folder / "specs/p.vnnlib")
    assert (second.onnx, second.timeout) == (folder / "nets/b.onnx.gz", 0.5)
    assert first.key == Key("nets/a.onnx", "specs/p.vnnlib")
    assert second.key == Key("nets/b.onnx", "specs/p.vnnlib")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "lines onnx,vnnlib,timeout"),
        ("nets/a.onnx,specs/p.vnnlib\n", "line 1"),
        ("nets/a.onnx,specs/p.vnnlib,1\nnets/c.onnx,specs/p.vnnlib,1\n", "line 2.*got nets/c.onnx"),
        ("nets/a.onnx,specs/p.vnnlib,soon\n", "seconds > 0"),
        ("nets/a.onnx,specs/p.vnnlib,0\n", "seconds > 0"),
        ("nets/a.onnx,specs/p.vnnlib,inf\n", "seconds > 0"),
        ('nets/a.onnx,"specs/p.vnnlib,1\n', "CSV"),
        ("nets/\0.onnx,specs/p.vnnlib,1\n", "beside the list|CSV"),
    ],
)
def test_broken_lists_are_refused(text: str, expected: str, folder: Path) -> None:
    with pytest.raises(DataError, match=expected):
        read_instances(write(folder, text))


def test_a_missing_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_instances(tmp_path / "instances.csv")


def test_reference_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "known.csv"
    path.write_text(
        "onnx,vnnlib,timeout_s,verdict,cex_recheck\n"
        "./a.onnx,p.vnnlib,1,sat,valid\na.onnx,q.vnnlib.gz,1,sat-unchecked,\n"
        "a.onnx,r.vnnlib,1,unsat,\na.onnx,s.vnnlib,1,unknown,\n"
    )
    assert list(read_reference(path).items()) == [
        (Key("a.onnx", "p.vnnlib"), Reference(Answer.SAT, True)),
        (Key("a.onnx", "q.vnnlib"), Reference(Answer.SAT, False)),
        (Key("a.onnx", "r.vnnlib"), Reference(Answer.UNSAT, False)),
        (Key("a.onnx", "s.vnnlib"), Reference(Answer.UNKNOWN, False)),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "columns"),
        ("onnx,vnnlib\na,b\n", "columns"),
        ("onnx,vnnlib,verdict\na,b,maybe\n", "line 2; expected one of sat"),
        ("onnx,vnnlib,verdict\na,b\n", "line 2"),
    ],
)
def test_broken_reference_files_are_refused(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "known.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=expected):
        read_reference(path)


def test_every_reference_of_vnncomp_has_its_instances(shared_data: Path) -> None:
    counts = {
        path.stem: len(read_reference(path))
        for path in sorted((shared_data / "vnncomp").glob("*.csv"))
    }
    assert counts == {
        "2021__cifar10_resnet": 72,
        "2021__marabou-cifar10": 72,
        "2021__test": 5,
        "2022__acasxu": 186,
        "2022__mnist_fc": 90,
        "2022__rl_benchmarks": 296,
        "2022__sri_resnet_a": 72,
        "2023__dist_shift": 72,
        "2023__vit": 200,
    }
