"""SECURITY.md: files of others are read without running anything, and nothing else is touched."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.certify.test_ledger import DIGEST, INFO, RUN, VERIFIED, entry, falsified
from tests.cli.bad_input import RECIPE
from tests.cli.typed import command, write_network
from tests.documents import ROOT
from tests.engines.malicious import Malicious
from tests.onnx_networks import onnx_file
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Entry
from verify_pipeline.data import archives, arrays
from verify_pipeline.data.archives import FolderFiles, open_files, open_folder
from verify_pipeline.errors import ConfigError, DataError, NetworkError, TrainingError
from verify_pipeline.onnx import load_network
from verify_pipeline.strict_yaml import load
from verify_pipeline.training import checkpoint

HOSTILE = "<script>alert(1)</script>|<img src=x onerror=alert(2)>"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A folder that appears if a pickle is opened carelessly."""
    return tmp_path / "run-by-a-pickle"


@pytest.mark.parametrize("place", ["../../etc/passwd", "/etc/passwd", "../../../../../etc/passwd"])
def test_an_onnx_file_does_not_make_other_files_be_read(place: str, tmp_path: Path) -> None:
    weights = {"w": np.eye(2, dtype=np.float32)}
    model = onnx.load_model_from_string(
        onnx_file([helper.make_node("MatMul", ["x", "w"], ["y"])], ("n", 2), weights)
    )
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    code, told, error = command("certify", path, "--data", "digits", "--epsilon", "0.1")
    assert (code, told) == (2, "")
    assert "expected a file in the ONNX file's folder" in error
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("dims", [(2**20, 2**20), (2**40,), (2**62, 4), (-1, 4)])
@pytest.mark.parametrize("outside", [False, True])
def test_a_weight_that_claims_to_be_huge_is_refused(
    dims: tuple[int, ...], outside: bool, tmp_path: Path
) -> None:
    weights = {"w": np.eye(2, dtype=np.float32)}
    model = onnx.load_model_from_string(
        onnx_file([helper.make_node("MatMul", ["x", "w"], ["y"])], ("n", 2), weights)
    )
    path = tmp_path / "net.onnx"
    (tensor,) = model.graph.initializer
    del tensor.dims[:]
    tensor.dims.extend(dims)
    if outside:
        (tmp_path / "w.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(NetworkError):
        load_network(path)


@pytest.mark.parametrize("wrap", [zlib.compress, bytes])
def test_a_pickle_in_a_ledger_is_bytes(
    wrap: Callable[[bytes], bytes], trace: Path, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.register(INFO, Extent.of([0]))
        ledger.append(RUN, [entry(0, falsified())], 10.0, "torch 0")
    connection = sqlite3.connect(path)
    blob = wrap(pickle.dumps(Malicious(trace)))
    connection.execute("UPDATE verdicts SET input = ?, output = ?", (blob, blob))
    connection.commit()
    connection.close()
    for typed in (("table", path), ("ledger", "check", path), ("report", path)):
        out = ("--out", tmp_path / "page.html") if typed[0] == "report" else ()
        code, _, error = command(*typed, *out)
        assert code == 2
        assert "counterexample" in error
    assert not trace.exists()


def test_a_pickle_in_place_of_a_checkpoint_is_refused(trace: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "out"
    recipe.write_text(RECIPE, encoding="utf-8")
    assert command("train", recipe, "--out", out)[0] == 0
    (tensors,) = out.glob("epoch-*.safetensors")
    with tensors.open("wb") as file:
        torch.save({"module": Malicious(trace)}, file)
    for typed in (("train", recipe, "--out", out), ("export", out)):
        code, _, error = command(*typed)
        assert code == 2
        assert "expected a whole checkpoint" in error
    tensors.write_bytes(pickle.dumps(Malicious(trace)))
    assert command("export", out)[0] == 2
    assert not trace.exists()


@pytest.mark.parametrize("name", ["../other/epoch.safetensors", "/etc/passwd", "..", 7, None])
def test_a_checkpoint_names_files_of_its_folder_only(name: object, tmp_path: Path) -> None:
    state = {"tensors": name, "epoch": 1, "metrics": [], "settings": {}}
    (tmp_path / checkpoint.STATE).write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(TrainingError, match=r"expected a whole checkpoint; got tensors in"):
        checkpoint.read(tmp_path)


def test_arrays_with_pickles_are_refused(trace: Path, tmp_path: Path) -> None:
    network = write_network(tmp_path / "net.onnx", np.eye(2))
    hostile = np.array([Malicious(trace)], dtype=object)
    np.save(tmp_path / "x.npy", hostile, allow_pickle=True)
    np.save(tmp_path / "y.npy", np.zeros(1, np.int64))
    own = ("--images", tmp_path / "x.npy", "--labels", tmp_path / "y.npy", "--epsilon", "0.1")
    code, _, _ = command("certify", network, *own)
    assert code == 2
    assert not trace.exists()


def test_an_archive_writes_nothing_and_reads_no_other_files(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    path = inside / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/wnids.txt", "a/../../evil.txt", "../evil.txt", "/evil.txt"):
            archive.writestr(name, "of the archive")
    before = sorted(tmp_path.rglob("*"))
    with open_files(path, "wnids.txt") as files:
        assert files.read("wnids.txt") == b"of the archive"
        assert files.read("../../evil.txt") == b"of the archive"  # a name as any other
        for name in ("../secret.txt", str(tmp_path / "secret.txt")):
            with pytest.raises(DataError, match="none of that name"):
                files.read(name)
    assert sorted(tmp_path.rglob("*")) == before


def zip_of(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_archives_that_unpack_to_too_much_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is lowered here; all zeros are packed to a thousandth."""
    monkeypatch.setattr(archives, "LARGEST", 1 << 20)
    monkeypatch.setattr(arrays, "LARGEST", 1 << 20)
    zeros, few = bytes((1 << 20) + 1), b"few"
    with open_files(zip_of(tmp_path / "a.zip", few=few, bomb=zeros), "few") as files:
        assert files.read("few") == few
        with pytest.raises(DataError, match="expected at most 1,048,576 bytes, unpacked"):
            files.read("bomb")
    half = tarfile.TarInfo("half"), bytes(1 << 19)
    long_header = tarfile.TarInfo("few")
    long_header.pax_headers = {"comment": "0" * (1 << 20)}
    for number, members in enumerate(
        (
            [(tarfile.TarInfo("few"), few), (tarfile.TarInfo("bomb"), zeros)],
            [(tarfile.TarInfo("few"), few), half, half, half],
            [(long_header, few)],
        )
    ):
        path = tar_of(tmp_path / f"{number}.tar.gz", *members)
        assert path.stat().st_size < 1 << 14
        with pytest.raises(DataError, match="at most 1,048,576 bytes"), open_files(path, "few"):
            pass
    (tmp_path / "images.gz").write_bytes(gzip.compress(zeros))
    with pytest.raises(DataError, match="at most 1,048,576 bytes"):
        archives.read_unpacked(tmp_path / "images.gz")
    np.savez_compressed(tmp_path / "set.npz", data=np.zeros(1 << 20, np.uint8))
    with pytest.raises(DataError, match="at most 1,048,576 bytes"):
        arrays.read_member(tmp_path / "set.npz", "data")


def test_a_zip_that_lies_about_sizes_gives_no_more_than_it_claims(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", few=b"0" * 10**6)
    content = bytearray(path.read_bytes())
    size = (10**6).to_bytes(4, "little")
    for place in (m.start() for m in re.finditer(re.escape(size), bytes(content))):
        content[place : place + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with open_files(path, "few") as files, pytest.raises(DataError, match="Bad CRC-32"):
        files.read("few")


def test_archives_of_too_many_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    names = [f"n{number}" for number in range(4)]
    zipped = zip_of(tmp_path / "a.zip", **dict.fromkeys(names, b""))
    packed = tar_of(tmp_path / "a.tar.gz", *((tarfile.TarInfo(name), b"") for name in names))
    for path in (zipped, packed):
        with pytest.raises(DataError, match="at most 3 files"), open_files(path, "n0"):
            pass


@pytest.mark.parametrize("name", ["../secret.txt", "a/../../secret.txt", "/etc/passwd"])
def test_a_list_of_files_leads_to_no_other_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    with open_folder(tmp_path, "set") as files:
        assert isinstance(files, FolderFiles)
        with pytest.raises(DataError, match="names of files in the folder"):
            files.read(name)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "an anchor or alias"),
        ("a: !!python/object/apply:os.mkdir [run-by-yaml]", "the tag"),
        ("a: !!python/name:os.system", "the tag"),
        ("!!python/object/new:os.mkdir {}", "the tag"),
        ("a: " + "[" * 1000 + "]" * 1000, "nested deeper"),
    ],
)
def test_yaml_is_plain_values(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        load(text)
    Path("recipe.yaml").write_text(text, encoding="utf-8")
    code, _, error = command("train", "recipe.yaml", "--out", "out")
    assert code == 2
    assert said in error
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A ledger whose network, data set and notes have markup for names."""
    path = tmp_path / "ledger.sqlite"
    run = replace(RUN, data_set=f"{HOSTILE}set")
    info = replace(INFO, run=run, network_name=HOSTILE, notes={"loss": HOSTILE})
    with Ledger.open(path) as ledger:
        ledger.register(info, Extent.of(range(2)))
        entries = [Entry(0, DIGEST, 0, VERIFIED), Entry(1, DIGEST, 0, falsified())]
        ledger.append(run, entries, 10.0, HOSTILE)
    return path


@pytest.mark.parametrize("format_", ["markdown", "html"])
def test_names_are_no_markup_in_tables(format_: str, hostile: Path) -> None:
    code, told, error = command("table", hostile, "--format", format_)
    assert code == 0, error
    assert "alert(1)" in told
    assert "<script" not in told
    assert "<img" not in told
    rows = [line for line in told.splitlines() if line.startswith("| ")]
    columns = {line.replace("\\|", "").count("|") for line in rows}
    assert format_ == "html" or len(columns) == 1


def test_names_are_no_markup_in_written_tables_and_pages(hostile: Path, tmp_path: Path) -> None:
    assert command("table", hostile, "--out", tmp_path / "table")[0] == 0
    assert command("report", hostile, "--out", tmp_path / "page.html")[0] == 0
    for path in [*tmp_path.glob("*.md"), *tmp_path.glob("*.html")]:
        text = path.read_text(encoding="utf-8")
        assert "<script>alert" not in text, path
        assert "<img src=x" not in text, path


def test_names_are_no_markup_in_figures(hostile: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "figure"
    code, _, error = command("plot", hostile, "--kind", "stages", "--out", out, "--format", "svg")
    assert code == 0, error
    text = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
    assert tags.isdisjoint({"script", "img", "image", "foreignObject"})


def test_the_tests_that_the_page_names_are_there() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 8
    for file, test in named:
        assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8"), (file, test)
