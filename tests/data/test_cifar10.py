"""CIFAR-10's two forms: small batches, damaged ones, hostile pickles, and the published ones."""

import dataclasses
import hashlib
import io
import pickle
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from verify_pipeline.data import load
from verify_pipeline.data.cifar10 import FORMS, Form, parse_binary, parse_python, read
from verify_pipeline.data.files import Store
from verify_pipeline.errors import DataError

NAMES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
PYTHON, BINARY = FORMS


def pixels_of(batch: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (count, 3072), dtype=np.uint8)


def labels_of(batch: int) -> list[int]:
    return [batch, 9 - batch]


def python_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 pickled it in 2009: protocol 2, text as bytes, numpy's old module."""
    shape = b"K\x01M" + struct.pack("<H", len(labels)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2
    dtype += b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R("
    array += shape + dtype + b"\x89T" + struct.pack("<I", pixels.size) + pixels.tobytes() + b"tb"
    integers = b"](" + b"".join(b"K" + bytes((label,)) for label in labels) + b"e"
    return b"\x80\x02}(U\x06labels" + integers + b"U\x04data" + array + b"u."


def binary_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    return b"".join(bytes((y,)) + row.tobytes() for y, row in zip(labels, pixels, strict=True))


def contents_of(form: Form) -> dict[str, bytes]:
    """Six small batches in one of the two forms, by file name."""
    write = python_batch if form.suffix == "" else binary_batch
    return {
        name + form.suffix: write(pixels_of(batch), labels_of(batch))
        for batch, name in enumerate(NAMES)
    }


def forms_for(contents: dict[str, bytes]) -> list[Form]:
    """The two forms with the digests of these contents in place of the published ones."""
    md5 = {name: hashlib.md5(c, usedforsecurity=False).hexdigest() for name, c in contents.items()}
    return [
        dataclasses.replace(form, md5={name: md5.get(name + form.suffix, "") for name in NAMES})
        for form in FORMS
    ]


def store_in(tmp_path: Path) -> Store:
    return Store(tmp_path / "root", tmp_path / "cache", download=False)


def write_folder(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def write_archive(path: Path, folder: str, contents: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def check_small(store: Store, contents: dict[str, bytes]) -> None:
    train = read("train", store, forms_for(contents))
    test = read("test", store, forms_for(contents))
    expected = np.concatenate([pixels_of(batch) for batch in range(5)]).reshape(10, 3, 32, 32)
    assert train.images.dtype == torch.uint8
    assert np.array_equal(train.images.numpy(), expected)
    assert train.labels.tolist() == [y for batch in range(5) for y in labels_of(batch)]
    assert np.array_equal(test.images.numpy(), pixels_of(5).reshape(2, 3, 32, 32))
    assert test.labels.tolist() == labels_of(5)


@pytest.mark.parametrize(
    ("form", "folder"),
    [
        (PYTHON, "cifar-10-batches-py"),
        (PYTHON, "cifar10"),
        (BINARY, "cifar-10-batches-bin"),
        (BINARY, "cifar10/cifar-10-batches-bin"),
    ],
)
def test_small_batches_in_a_folder(tmp_path: Path, form: Form, folder: str) -> None:
    contents = contents_of(form)
    write_folder(tmp_path / "root" / folder, contents)
    check_small(store_in(tmp_path), contents)


@pytest.mark.parametrize("form", FORMS)
def test_small_batches_in_their_archive(tmp_path: Path, form: Form) -> None:
    contents = contents_of(form)
    write_archive(tmp_path / "root" / "cifar10" / form.archive.name, "cifar-10-batches", contents)
    check_small(store_in(tmp_path), contents)
    assert [p.name for p in (tmp_path / "root" / "cifar10").iterdir()] == [form.archive.name]


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    contents = contents_of(PYTHON)
    forms = forms_for(contents)
    del contents["data_batch_3"]
    write_folder(tmp_path / "root" / "cifar10", contents)
    with pytest.raises(DataError, match="data_batch_3"):
        read("train", store_in(tmp_path), forms)


def test_an_archive_without_batches_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path / "root" / "cifar10" / PYTHON.archive.name, "x", {"readme": b""})
    with pytest.raises(DataError, match="the file data_batch_1"):
        read("train", store_in(tmp_path))


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "root" / "cifar10" / PYTHON.archive.name
    write_archive(path, "cifar-10-batches-py", contents_of(PYTHON))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="whole file"):
        read("train", store_in(tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_batches_that_are_not_the_published_ones_are_refused(tmp_path: Path, form: Form) -> None:
    write_folder(tmp_path / "root" / "cifar10", contents_of(form))
    with pytest.raises(DataError, match="MD5"):
        read("train", store_in(tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_a_label_out_of_range_is_refused(tmp_path: Path, form: Form) -> None:
    contents = contents_of(form)
    write = python_batch if form is PYTHON else binary_batch
    contents["test_batch" + form.suffix] = write(pixels_of(5), [3, 10])
    write_folder(tmp_path / "root" / "cifar10", contents)
    with pytest.raises(DataError, match="from 0 to 9; got 10 at image 1"):
        read("test", store_in(tmp_path), forms_for(contents))


def test_a_binary_batch_of_a_broken_size_is_refused() -> None:
    with pytest.raises(DataError, match="multiple of 3073"):
        parse_binary(Path("batch"), bytes(3072))


class Opener:
    """Pickles into a call of open(path, "w"), which leaves a file where it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps({"data": Opener(trace)}, protocol)
    with pytest.raises(DataError, match="open"):
        parse_python(Path("batch"), content)
    assert not trace.exists()
    pickle.loads(content)["data"].close()  # the pickle does what the test says it does
    assert trace.exists()


@pytest.mark.parametrize("name", ["numpy\nload", "builtins\neval", "numpy.core.multiarray\narray"])
def test_no_other_name_is_admitted(name: str) -> None:
    with pytest.raises(DataError, match="plain data"):
        parse_python(Path("batch"), b"\x80\x02c" + name.encode() + b"\n.")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        python_batch(pixels_of(0), labels_of(0))[:-50],
        pickle.dumps([1, 2]),
        pickle.dumps({b"labels": [1, 2]}),
        python_batch(pixels_of(0, count=1), labels_of(0)),
    ],
)
def test_a_damaged_or_other_pickle_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="batch"):
        parse_python(Path("batch"), content)


def test_the_real_cifar10_in_both_forms(shared_data: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(shared_data / "unpack_cifar10.py"), str(tmp_path)],
        check=True,
        capture_output=True,
    )
    train, test = (
        load("cifar10", split, root=tmp_path, download=False) for split in ("train", "test")
    )
    assert train.images.shape == (50_000, 3, 32, 32)
    assert test.images.shape == (10_000, 3, 32, 32)
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert train.labels.bincount().tolist() == [5000] * 10
    means = train.images.double().mean((0, 2, 3)) / 255
    assert torch.allclose(means, torch.tensor([0.4914, 0.4822, 0.4465]).double(), atol=5e-5)

    # The same images written in the binary form have the digests of the published binary batches.
    binary = tmp_path / "cifar-10-batches-bin"
    binary.mkdir()
    pixels, labels = test.images.flatten(1).numpy(), test.labels.tolist()
    (binary / "test_batch.bin").write_bytes(binary_batch(pixels, labels))
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    again = load("cifar10", "test", root=tmp_path, download=False)
    assert torch.equal(again.images, test.images)
    assert torch.equal(again.labels, test.labels)
