"""Questions as typed: every option once on a small network, and what is refused before it runs."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.cli import typed
from verify_pipeline.onnx import export_onnx


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of 2 x 3 x 3 images and three classes, and arrays for it."""
    place = tmp_path_factory.mktemp("questions")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    export_onnx(module, place / "net.onnx", (2, 3, 3), {})
    pixels = torch.rand(8, 2, 3, 3)
    arrays = {
        "images": pixels,
        "labels": module(pixels).argmax(1),
        "eps": torch.full((3, 3), 0.01),
        "lower": pixels - 0.01,
        "upper": pixels + 0.01,
        "targets": (module(pixels).argmax(1) + 1) % 3,
        "rows": torch.tensor([[1.0, 0.0, 0.0]]),
        "offsets": torch.tensor([9.0]),
    }
    for name, array in arrays.items():
        np.save(place / f"{name}.npy", array.detach().numpy())
    return place


def command(name: str, folder: Path, *options: object) -> tuple[int, str, str]:
    chosen = [str(option).replace("@", f"{folder}/") for option in options]
    return typed.command(name, folder / "net.onnx", *chosen)


OWN = ("--images", "@images.npy", "--labels", "@labels.npy")
BOXES = ("--lower", "@lower.npy", "--upper", "@upper.npy")
QUESTIONS = {
    "linf 0.01": (*OWN, "--eps", "0.01"),
    f"linf {2 / 255!r},0.0": (*OWN, "--epsilon", "2/255, 0"),
    "linf by pixel": (*OWN, "--epsilon-file", "@eps.npy"),
    "linf 0.01; mean 0.5,0.25 std 0.25,0.5": (
        *(*OWN, "--eps", "0.01"),
        *("--mean", "0.5,1/4", "--std", "0.25,0.5"),
    ),
    "linf 0.01 target 2": (*OWN, "--eps", "0.01", "--target", "2"),
    "linf 0.01 targets": (*OWN, "--eps", "0.01", "--target", "@targets.npy"),
    "linf 0.01 top-2": (*OWN, "--eps", "0.01", "--top-k", "2"),
    "linf 0.01 rows": (*OWN, "--eps", "0.01", "--rows", "@rows.npy"),
    "boxes": (*BOXES, "--labels", "@labels.npy", "--images", "@images.npy"),
    "boxes rows": (*BOXES, "--rows", "@rows.npy", "--offsets", "@offsets.npy"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_is_asked_and_noted(name: str, folder: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    code, shown, err = command("certify", folder, *QUESTIONS[name], "--ledger", ledger)
    assert code == 0, err
    assert "Verified" in shown
    with sqlite3.connect(ledger) as book:
        (row,) = book.execute("SELECT perturbation, specification FROM runs").fetchall()
        count = book.execute("SELECT count(*) FROM verdicts").fetchone()
    noted = " ".join(row).removesuffix(" margins")
    assert noted.startswith(name)
    assert count[0] == 8 or "target " in name
    # what is no file is in the ledger
    pairs = zip(QUESTIONS[name][::2], QUESTIONS[name][1::2], strict=True)
    files = [word for pair in pairs if pair[1].startswith("@") for word in pair]
    code, shown, err = command("recheck", folder, *files, "--ledger", ledger)
    assert code == 0, err
    assert "counterexamples hold" in shown
    assert name.partition("; ")[2] in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*OWN, "--eps", "0.1,0.2,0.3"), "one for each channel"),
        ((*OWN, "--eps", "0.1,x"), "a fraction such as"),
        ((*OWN, "--eps", "0.1", "--epsilon-file", "@eps.npy"), "one of them"),
        ((*OWN, "--epsilon-file", "@labels.npy"), "broadcasts"),
        ((*OWN, "--epsilon-file", "@none.npy"), "no file"),
        ((*OWN, "--eps", "0.1", "--mean", "0.5"), "as many numbers"),
        ((*OWN, "--eps", "0.1", "--mean", "0.5", "--std", "0"), "std above zero"),
        ((*OWN, "--eps", "0.1", "--mean", "1,2,3", "--std", "1,2,3"), "for each channel"),
        ((*OWN, "--eps", "0.1", "--layout", "chw"), "nchw or nhwc"),
        ((*OWN, "--eps", "0.1", "--layout", "nhwc"), "input shape"),
        ((*OWN, "--eps", "0.1", "--target", "3"), "from 0 to 2"),
        ((*OWN, "--eps", "0.1", "--target", "@rows.npy"), "integers"),
        ((*OWN, "--eps", "0.1", "--top-k", "3"), "below the number of classes"),
        ((*OWN, "--eps", "0.1", "--top-k", "2", "--target", "1"), "one of them"),
        ((*OWN, "--eps", "0.1", "--rows", "@eps.npy", "--offsets", "@offsets.npy"), "S x K"),
        ((*OWN, "--eps", "0.1", "--offsets", "@offsets.npy"), "--rows"),
        (("--lower", "@lower.npy"), "both or neither"),
        ((*BOXES, "--eps", "0.1"), "Leave out --epsilon"),
        ((*BOXES, "--data", "mnist"), "Leave out --data"),
        (BOXES, "labels"),
        (("--lower", "@upper.npy", "--upper", "@lower.npy"), "empty box"),
    ],
)
def test_what_cannot_be_asked_is_refused_first(
    options: tuple[str, ...], message: str, folder: Path, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.sqlite"
    code, _, err = command("certify", folder, *options, "--ledger", ledger)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert not ledger.exists()
