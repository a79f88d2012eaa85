"""The digits that come with scikit-learn."""

import sys

import numpy as np
import pytest
import torch

from verify_pipeline.data import load
from verify_pipeline.errors import DependencyError


def test_the_splits_partition_the_published_images() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    train, test = load("digits", "train"), load("digits", "test")
    assert train.images.shape == (1437, 1, 8, 8)
    assert test.images.shape == (360, 1, 8, 8)
    values, labels = datasets.load_digits(return_X_y=True)
    # 255 * v / 16 ends in a half for no v in 0..16 but 8, which goes up.
    levels = np.floor(255 * values / 16 + 0.5)
    both = torch.cat([train.images, test.images]).reshape(-1, 64).double().numpy()
    rows = np.c_[both, torch.cat([train.labels, test.labels]).numpy()]
    expected = np.c_[levels, labels]
    assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))
    assert (levels.min(), levels.max()) == (0, 255)


def test_the_split_never_changes() -> None:
    pytest.importorskip("sklearn")
    test = load("digits", "test")
    assert test.labels[:12].tolist() == [2, 2, 3, 0, 8, 8, 7, 8, 3, 4, 0, 2]
    assert test.labels.bincount().tolist() == [29, 38, 33, 40, 33, 39, 32, 42, 41, 33]


def test_without_scikit_learn_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DependencyError, match="pip install"):
        load("digits", "test")
