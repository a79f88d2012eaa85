"""The data sets by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from verify_pipeline.data import Augmentation, info, load, names
from verify_pipeline.errors import ConfigError, DataError

# From the table "Data" of the paper (arXiv:2305.13991) and its authors' code.
FACTS = {
    "digits": ((1, 8, 8), 10, (0.0,), (1.0,), Augmentation()),
    "mnist": ((1, 28, 28), 10, (0.0,), (1.0,), Augmentation()),
    "fashionmnist": ((1, 28, 28), 10, (0.0,), (1.0,), Augmentation()),
    "cifar10": (
        (3, 32, 32),
        10,
        (0.4914, 0.4822, 0.4465),
        (0.2023, 0.1994, 0.2010),
        Augmentation(flip=True, padding=2, mode="edge"),
    ),
    "svhn": (
        (3, 32, 32),
        10,
        (0.4377, 0.4438, 0.4728),
        (0.1980, 0.2010, 0.1970),
        Augmentation(flip=False, padding=2, mode="edge"),
    ),
    "gtsrb": (
        (3, 32, 32),
        43,
        (0.3403, 0.3121, 0.3214),
        (0.2724, 0.2608, 0.2669),
        Augmentation(flip=False, padding=2, mode="edge"),
    ),
    "tinyimagenet": (
        (3, 64, 64),
        200,
        (0.4802, 0.4481, 0.3975),
        (0.2302, 0.2265, 0.2262),
        Augmentation(flip=True, padding=4, mode="edge"),
    ),
    "imagenet64": (
        (3, 64, 64),
        1000,
        (0.4815, 0.4578, 0.4082),
        (0.2153, 0.2111, 0.2121),
        Augmentation(flip=True, padding=4, mode="edge"),
    ),
}


def test_names_are_those_of_the_facts() -> None:
    assert names() == tuple(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_info_is_as_published(name: str) -> None:
    known = info(name)
    assert known.name == name
    facts = (known.shape, known.classes, known.mean, known.std, known.augmentation)
    assert facts == FACTS[name]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    for ask in (info, load):
        with pytest.raises(ConfigError, match=r"digits, mnist.*got 'stl10'"):
            ask("stl10")
    with pytest.raises(ConfigError, match="train or test; got 'val'"):
        load("digits", "val")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in FACTS if name != "digits"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_nothing_there_names_root_and_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, split
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError) as caught:
        load(name, split, root=tmp_path, download=False)
    for part in (str(tmp_path / name), "--data-root", "VERIFY_PIPELINE_DATA"):
        assert part in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_names_of_classes_are_in_the_order_of_the_labels() -> None:
    assert info("cifar10").class_names[3] == "cat"
    assert info("fashionmnist").class_names[9] == "ankle boot"
    assert info("mnist").class_names == ()


def test_as_many_names_as_classes_are_needed() -> None:
    with pytest.raises(DataError, match="a name for each of 10 classes"):
        replace(info("cifar10"), class_names=("cat", "dog"))
