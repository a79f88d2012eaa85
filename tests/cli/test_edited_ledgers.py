"""Ledgers that somebody edited: no row counts without its evidence, and the error says where it is.

The ledger is of four images of two pixels, two outputs: 0 and 2 verified, 1 attacked, 3 wrong.
"""

import hashlib
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tests.certify.old_ledger import write_version_1
from tests.cli.typed import command, write_network
from verify_pipeline.certify.settings import CertifySettings, plan


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return write_version_1(tmp_path / "ledger.sqlite")


def edit(ledger: Path, change: str, *values: object) -> None:
    connection = sqlite3.connect(ledger)
    assert connection.execute(change, values).rowcount == 1
    connection.commit()
    connection.close()


VERDICTS = {
    "verdict = 'verified', bound = -1, stage = 'attack', reason = NULL": (
        1,
        "verified by one of ibp",
    ),
    "bound = -1, stage = 'attack'": (0, "verified by one of ibp; got 'attack'"),
    "stage = 'clean'": (0, "verified by one of ibp; got 'clean'"),
    "stage = 'crown'": (0, "one of the run's stages"),
    "stage = 'magic'": (0, "one of the run's stages"),
    "stage = 'abcrown', bound = NULL": (0, "one of the run's stages"),
    "bound = -1": (0, "a finite bound > 0 of a verified image; got -1.0"),
    "bound = 0": (0, "a finite bound > 0"),
    "bound = NULL": (0, "a finite bound > 0"),
    "bound = 9e999": (0, "a finite bound > 0"),
    "bound = 'high'": (0, "a bound; got 'high'"),
    "reason = 'TIMEOUT'": (0, "no reason for 'verified'; got 'TIMEOUT'"),
    "verdict = 'unknown'": (0, "a reason for 'unknown'; got None"),
    "verdict = 'unknown', reason = 'LAZY'": (0, "a reason for 'unknown'; got 'LAZY'"),
    "verdict = 'unknown', reason = 'TIMEOUT', stage = 'magic'": (0, "one of the run's stages"),
    "verdict = 'perhaps'": (0, "a verdict; got 'perhaps'"),
    "verdict = 'falsified', stage = 'attack'": (0, "a counterexample of a falsified image"),
    "verdict = 'verified', bound = 1, stage = 'ibp'": (3, "no counterexample of a verified"),
    "stage = 'ibp'": (1, "falsified by one of attack, clean; got 'ibp'"),
    "margin = 0.5": (1, "a margin <= 0; got 0.5"),
    "margin = NULL": (1, "a margin <= 0"),
    "input = NULL": (1, "a counterexample of a falsified image"),
    "input = x'00'": (1, "without damage"),
    "input_shape = '1,1,3'": (1, "without damage"),
    "input_shape = 'flat'": (1, "that can be read"),
    "output = x'0000803F00000000'": (1, "outputs that break the specification; got 'a margin of 1"),
    "output = x'0000803F'": (3, "outputs that margins is about; got 1"),
    "output = x'0000C07F0000803F'": (1, "without damage"),
    "label = 2": (1, "a label from 0 to 1; got 2"),
    "label = -1": (0, "a label >= 0; got -1"),
    "label = NULL": (0, "a label"),
    "seconds = -1": (0, "seconds >= 0; got -1.0"),
    "seconds = 9e999": (0, "seconds >= 0"),
    "seconds = 'long'": (0, "seconds >= 0"),
    "timeout = 0": (0, "a timeout > 0"),
    "attempts = 0": (0, "a number of attempts"),
    "instance = 'd'": (0, "an instance's digest"),
    "image = -1": (0, "the place of an image"),
    "decided_at = 'today'": (0, "the time of the verdict"),
    "decided_at = 1e18": (0, "the time of the verdict; got 1e+18"),
    "decided_at = 253402300800": (0, "the time of the verdict"),
    "detail = x'00'": (0, "texts"),
}


@pytest.mark.parametrize("change", VERDICTS)
def test_a_verdict_without_its_evidence_is_refused(
    ledger: Path, tmp_path: Path, change: str
) -> None:
    image, told = VERDICTS[change]
    edit(ledger, f"UPDATE verdicts SET {change} WHERE image = {image}")
    code, shown, err = command("table", ledger, "--out", tmp_path / "t")
    assert (code, shown) == (2, "")
    place = -1 if change == "image = -1" else image
    assert f"ledger {ledger}, run 1, image {place}; expected" in err
    assert told in err
    assert "delete the row from its table verdicts and certify again" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.sqlite"]


RUNS = {
    "settings = '{}'": "settings of the digest",
    "settings_digest = 'no'": "settings of the digest",
    "network = 'n'": "a network's SHA-256",
    "data_set = x'00'": "texts that name the run",
    "epsilon = 0.3": "ε of the boxes linf 0.1; got 0.3",
    "epsilon = NULL": "ε of the boxes",
    "perturbation = 'none at all'": "a question",
    "perturbation = 'linf e'": "a question",
    "specification = 'top-0'": "a question",
    "specification = 'beauty'": "a question",
}


@pytest.mark.parametrize("change", RUNS)
def test_a_run_that_cannot_be_is_refused(ledger: Path, change: str) -> None:
    edit(ledger, f"UPDATE runs SET {change}")
    code, shown, err = command("table", ledger)
    assert (code, shown) == (2, "")
    assert f"ledger {ledger}, run 1; expected" in err
    assert RUNS[change] in err


@pytest.mark.parametrize("asked", ["many", "5:2", "", "0:4,2:6"])
def test_an_extent_that_is_none_is_refused(ledger: Path, asked: str) -> None:
    assert command("table", ledger)[0] == 0  # brings it up to date
    edit(ledger, "UPDATE runs SET asked = ?", asked)
    code, _, err = command("table", ledger)
    assert code == 2
    assert "the places of images that were asked for" in err


def test_sizes_are_those_of_the_network(ledger: Path) -> None:
    assert command("table", ledger)[0] == 0
    edit(ledger, "UPDATE runs SET outputs = 3, input_shape = '1,1,2'")
    assert "3 outputs at the counterexample; got 2" in command("table", ledger)[2]
    edit(ledger, "UPDATE runs SET outputs = 2, input_shape = '1,28,28'")
    assert "a counterexample of shape (1, 28, 28); got (1, 1, 2)" in command("table", ledger)[2]
    edit(ledger, "UPDATE runs SET outputs = 1, input_shape = NULL")
    assert "1 outputs at the counterexample; got 2" in command("table", ledger)[2]
    edit(ledger, "UPDATE verdicts SET label = 2 WHERE image = 2")
    edit(ledger, "UPDATE runs SET outputs = 2")
    assert "a label from 0 to 1; got 2" in command("table", ledger)[2]


@pytest.fixture
def asked(ledger: Path, tmp_path: Path) -> tuple[object, ...]:
    """The network that the ledger is of, and the images, as arguments.

    The run gets the key that its settings have now, so that certification continues it.
    """
    network = write_network(tmp_path / "two.onnx", np.eye(2))
    pixels = np.array([[1, 0], [0.55, 0.5], [0, 1], [0, 1]], np.float32).reshape(4, 1, 1, 2)
    np.save(tmp_path / "images.npy", pixels)
    np.save(tmp_path / "labels.npy", np.array([0, 0, 1, 0]))
    now = plan(CertifySettings(epsilon=0.1, stages=("clean", "ibp", "attack")))
    edit(ledger, "UPDATE runs SET settings = ?, settings_digest = ?", now.tried, now.digest)
    edit(ledger, "UPDATE runs SET network = ?", hashlib.sha256(network.read_bytes()).hexdigest())
    return (network, "--images", tmp_path / "images.npy", "--labels", tmp_path / "labels.npy")


def test_an_edited_row_does_not_pass_recheck_and_is_not_continued(
    ledger: Path, asked: tuple[object, ...]
) -> None:
    code, shown, err = command("recheck", *asked)
    assert code == 0, err
    assert "2 of 2 counterexamples hold" in shown
    edit(ledger, "UPDATE verdicts SET bound = -1, stage = 'attack' WHERE image = 2")
    certify = ("certify", *asked, "--epsilon", 0.1, "--stages", "clean,ibp,attack")
    for again in (("recheck", *asked), certify):
        code, _, err = command(*again)
        assert code == 2
        assert "run 1, image 2; expected verified by one of ibp; got 'attack'" in err


def test_recheck_compares_labels_with_the_data_set(ledger: Path, asked: tuple[object, ...]) -> None:
    edit(ledger, "UPDATE verdicts SET label = 1 WHERE image = 0")
    code, _, err = command("recheck", *asked)
    assert code == 2
    assert "image 0: its label is 1 in the ledger and 0 in the data set" in err


ELSEWHERE = {
    "image = 9": "image 9: the data set holds no such image",
    f"instance = '{'0' * 32}'": "image 0: the data set holds another image there",
}


@pytest.mark.parametrize("change", ELSEWHERE)
def test_recheck_tells_rows_of_images_that_the_data_set_does_not_hold(
    ledger: Path, asked: tuple[object, ...], change: str
) -> None:
    edit(ledger, f"UPDATE verdicts SET {change} WHERE image = 0")
    code, shown, err = command("recheck", *asked)
    assert code == 2
    assert "2 of 2 counterexamples hold; other rows that do not fit the data set: 1" in shown
    assert ELSEWHERE[change] in err


def test_recheck_refuses_a_counterexample_of_another_shape(
    ledger: Path, asked: tuple[object, ...]
) -> None:
    """Of as many numbers, so the row alone does not show it."""
    edit(ledger, "UPDATE verdicts SET input_shape = '2' WHERE image = 1")
    code, shown, err = command("recheck", *asked)
    assert code == 2
    assert "1 of 2 counterexamples hold" in shown
    assert "image 1: its shape is (2,), its box's (1, 1, 2)" in err


def test_text_that_is_not_utf_8_is_told(ledger: Path, asked: tuple[object, ...]) -> None:
    edit(ledger, "UPDATE verdicts SET detail = CAST(x'FF' AS TEXT) WHERE image = 1")
    for again in (("table", ledger), ("recheck", *asked)):
        code, shown, err = command(*again)
        assert (code, shown) == (2, "")
        assert f"ledger {ledger}; expected an undamaged ledger; got" in err
        assert "UTF-8" in err
