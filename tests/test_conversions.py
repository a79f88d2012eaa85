"""What is given to a training in place of images, modules, settings or folders."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from verify_pipeline import api
from verify_pipeline.errors import ConfigError, DataError, NetworkError

IMAGES = api.ImageSet("mine", "train", torch.rand(40, 4), torch.arange(40) % 2, 2)
SETTINGS: dict[str, Any] = {
    "loss": {"name": "ibp"},
    "epsilon": {"target": 0.01, "length": 1},
    "optimiser": {"epochs": 2, "milestones": [], "batch": 20},
}


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    "given", [(IMAGES.images, IMAGES.labels), IMAGES.images, [1]], ids=["pair", "tensor", "list"]
)
def test_images_of_another_kind(given: Any) -> None:
    with pytest.raises(DataError, match=r"expected an ImageSet; .*api\.images_of_dataset"):
        api.train(SETTINGS, images=given, module=module())


@pytest.mark.parametrize("given", ["net.py", nn.Linear], ids=["path", "class"])
def test_a_module_of_another_kind(given: Any) -> None:
    with pytest.raises(NetworkError, match=r"expected a torch module \(torch\.nn\.Module\)"):
        api.train(SETTINGS, images=IMAGES, module=given)


def test_a_folder_may_be_text(tmp_path: Path) -> None:
    folder = str(tmp_path / "run")
    trained = api.train(SETTINGS, folder, images=IMAGES, module=module())
    loaded = api.load_trained(folder, module=module())
    assert torch.equal(loaded.module[2].weight, trained.module[2].weight)


def test_a_mistake_of_several_settings_has_no_key() -> None:
    short = SETTINGS | {"optimiser": {"epochs": 1, "milestones": []}}
    with pytest.raises(ConfigError, match=r"1 error\n  epsilon\.start \+ epsilon\.length"):
        api.train(short, images=IMAGES, module=module())
