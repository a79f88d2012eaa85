"""A folder of files that are not as they must be, for commands that have to refuse them."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path

import numpy as np

from tests.cli.typed import command, write_network

RECIPE = """\
description: as small as it gets
train:
  data: {name: digits}
  network: {name: mlp, width: 0.1}
  loss: {name: ibp}
  epsilon: {target: 1/32, start: 1, length: 1}
  optimiser: {epochs: 2, milestones: [], batch: 256}
certify: {indices: ":2", stages: [clean, ibp]}
"""
PROPERTY = """\
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (>= X_0 0)) (assert (<= X_0 1)) (assert (>= X_1 0)) (assert (<= X_1 1))
(assert (<= Y_0 Y_1))
"""


def write_all(folder: Path) -> None:
    """Networks, arrays, recipes, ledgers, properties and lists, good and bad, by short names."""
    _write_networks(folder)
    _write_arrays(folder)
    _write_texts(folder)
    _write_ledgers(folder)


def _write_networks(folder: Path) -> None:
    write_network(folder / "two.onnx", np.eye(2))
    write_network(folder / "one.onnx", np.ones((2, 1)))
    write_network(folder / "inf.onnx", np.array([[1.0, np.inf], [0.0, 1.0]]))
    whole = (folder / "two.onnx").read_bytes()
    (folder / "half.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "text.onnx").write_text("not a network", encoding="utf-8")
    (folder / "empty.onnx").write_bytes(b"")


def _write_arrays(folder: Path) -> None:
    pixels = np.zeros((4, 1, 1, 2), np.float32)
    pixels[[0, 1], 0, 0, 0] = pixels[[2, 3], 0, 0, 1] = 1.0
    labels = np.array([0, 0, 1, 1])
    one = np.nextafter(np.float64(0.5), 1.0)
    arrays = {
        "images": pixels,
        "labels": labels,
        "images-nan": np.where(pixels > 0, np.nan, pixels),
        "images-255": pixels * 255,
        "images-below": pixels - 1,
        "images-int": pixels.astype(np.int64),
        "images-3d": pixels[:, 0],
        "images-none": pixels[:0],
        "images-wide": np.zeros((4, 1, 1, 3), np.float32),
        "labels-three": labels[:3],
        "labels-float": labels.astype(np.float64),
        "labels-2": labels + 1,
        "labels-below": labels - 1,
        "labels-none": labels[:0],
        "labels-2d": labels[:, None],
        "eps-below": np.full((1, 2), -0.1),
        "eps-nan": np.full((1, 2), np.nan),
        "eps-wide": np.full((1, 5), 0.1),
        "rows": np.array([[1.0, -1.0]]),
        "rows-nan": np.array([[1.0, np.nan]]),
        "rows-none": np.zeros((0, 2)),
        "rows-wide": np.ones((1, 5)),
        "offsets-two": np.zeros(2),
        "targets-five": np.zeros(5, np.int64),
        "lower": pixels.astype(np.float64) - 0.1,
        "upper": pixels.astype(np.float64) + 0.1,
        "upper-inf": pixels + np.inf,
        "lower-between": np.full((4, 1, 1, 2), one),
        "upper-between": np.full((4, 1, 1, 2), np.nextafter(one, 1.0)),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    with (folder / "images-more.npy").open("wb") as file:  # claims terabytes
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 1, 1, 2)}
        np.lib.format.write_array_header_1_0(file, header)
    (folder / "text.npy").write_text("not an array", encoding="utf-8")
    (folder / "empty.npy").write_bytes(b"")


def _write_texts(folder: Path) -> None:
    texts = {
        "tiny.yaml": RECIPE,
        "torn.yaml": "train: [1\n",
        "list.yaml": "- a\n- b\n",
        "none.yaml": "",
        "twice.yaml": RECIPE + "description: again\n",
        "p.vnnlib": PROPERTY,
        "p-three.vnnlib": PROPERTY.replace("X_1", "X_2"),
        "p-open.vnnlib": PROPERTY.replace("(assert (<= X_0 1))", ""),
        "p-torn.vnnlib": PROPERTY[:-4],
        "p-text.vnnlib": "not a property",
        "p-none.vnnlib": "",
        "p-huge.vnnlib": PROPERTY.replace("(<= X_0 1)", "(<= X_0 1e999)"),
        "list.csv": "two.onnx,p.vnnlib,10\n",
        "list-none.csv": "",
        "list-two.csv": "two.onnx,p.vnnlib\n",
        "list-gone.csv": "gone.onnx,p.vnnlib,10\n",
        "list-long.csv": "two.onnx,p.vnnlib,1e999\n",
        "list-late.csv": "two.onnx,p.vnnlib,soon\n",
        "known-bare.csv": "onnx,vnnlib\n",
        "known-odd.csv": "onnx,vnnlib,verdict\ntwo.onnx,p.vnnlib,perhaps\n",
        "results.csv": "onnx,vnnlib,result,seconds,detail\ntwo.onnx,p.vnnlib,sat,1.0,\n",
        "results-odd.csv": "onnx,vnnlib,result,seconds,detail\ntwo.onnx,p.vnnlib,maybe,1.0,\n",
        "results-torn.csv": "onnx,vnnlib,result,seconds,detail\ntwo.onnx\n",
        "search.yaml": "bab: {branching: {method: guessing}}\n",
        "file": "a file, no folder",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (folder / "list-bytes.csv").write_bytes(b"\xff\xfe\x00")
    (folder / "torn.vnnlib.gz").write_bytes(gzip.compress(PROPERTY.encode())[:-9])
    (folder / "empty-folder").mkdir()


def _write_ledgers(folder: Path) -> None:
    (folder / "empty.sqlite").write_bytes(b"")
    (folder / "text.sqlite").write_text("no data base, but long enough" * 100, encoding="utf-8")
    foreign = sqlite3.connect(folder / "foreign.sqlite")
    foreign.execute("CREATE TABLE t (a)")
    foreign.commit()
    foreign.close()
    certify = ("certify", folder / "two.onnx", "--images", folder / "images.npy")
    asked = ("--labels", folder / "labels.npy", "--epsilon", 0.1, "--stages", "clean,ibp")
    code, _, err = command(*certify, *asked, "--ledger", folder / "good.sqlite")
    assert code == 0, err
    for name, change in (
        ("edited", "UPDATE verdicts SET bound = -1"),
        ("newer", "PRAGMA user_version = 99"),
        ("bare", "DELETE FROM verdicts"),
    ):
        (folder / f"{name}.sqlite").write_bytes((folder / "good.sqlite").read_bytes())
        connection = sqlite3.connect(folder / f"{name}.sqlite")
        connection.execute(change)
        connection.commit()
        connection.close()
    whole = (folder / "good.sqlite").read_bytes()
    (folder / "half.sqlite").write_bytes(whole[: len(whole) // 2])
