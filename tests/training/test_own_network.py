"""Networks of a user's own: as a module, and as a file with a function that makes them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import ConfigError, TrainingError
from verify_pipeline.training import own_network, restore, train
from verify_pipeline.training.settings import NetworkSettings, TrainSettings

from .conftest import settings

FILE = """\
from torch import nn
from sizes import WIDTH


def make(classes, wide=False):
    width = 2 * WIDTH if wide else WIDTH
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(),
        nn.Linear(36 * width, classes),
    )


def broken(classes):
    raise ValueError("no such\\nnetwork")


def number(classes):
    return classes
"""

CHANGES: dict[str, Any] = {"regulariser": {"ibp_init": False}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "sizes.py").write_text("WIDTH = 3\n", encoding="utf-8")
    made = tmp_path / "net.py"
    made.write_text(FILE, encoding="utf-8")
    return made


def of_file(path: Path, **more: Any) -> TrainSettings:
    return settings(
        network={"file": str(path), "factory": "make", "arguments": {"classes": 2}, **more}
    )


def given(**changes: Any) -> TrainSettings:
    return settings(network={}, **changes)


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))


def weights(module: nn.Module) -> list[Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Tied(nn.Module):
    """Has the same weights in two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 2)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.second(self.first(x.flatten(1)).relu()).relu())
        return out


class TestModule:
    def test_it_is_trained_itself(self, images: ImageSet, info: DataSetInfo) -> None:
        module = small()
        before = weights(module)
        trained = train(given(), images, info, module=module)
        assert trained.module is module
        assert not same(weights(module), before)
        assert trained.metrics[-1]["train_verified"] == 1.0

    def test_its_weights_are_kept_if_the_settings_say_so(
        self, images: ImageSet, info: DataSetInfo
    ) -> None:
        still = {"epochs": 3, "batch": 32, "milestones": [], "learning_rate": 1e-30}
        kept, drawn = small(), small()
        before = weights(kept)
        train(given(optimiser=still, **CHANGES), images, info, module=kept)
        train(given(optimiser=still), images, info, module=drawn)
        assert same(weights(kept), before)
        assert not same(weights(drawn), before)

    def test_frozen_weights_stay(self, images: ImageSet, info: DataSetInfo) -> None:
        module = small()
        module[1].requires_grad_(False)
        before = {key: value.clone() for key, value in module.state_dict().items()}
        train(given(), images, info, module=module)
        same_as_before = [k for k, v in module.state_dict().items() if torch.equal(v, before[k])]
        assert same_as_before == ["1.weight", "1.bias"]

    def test_tied_weights_stay_tied(
        self, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        whole = train(given(), images, info, module=Tied())
        train(given(), images, info, tmp_path, module=Tied(), until=lambda rows: len(rows) == 2)
        continued = train(given(), images, info, tmp_path, module=Tied()).module
        assert same(weights(continued), weights(whole.module))
        assert continued.first.weight is continued.second.weight

    def test_a_continued_training_ends_as_an_uninterrupted_one(
        self, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        chosen = given(**CHANGES)
        whole = train(chosen, images, info, module=small())
        train(chosen, images, info, tmp_path, module=small(), until=lambda rows: len(rows) == 2)
        # the weights of the second module do not matter: those of the checkpoint replace them
        continued = train(chosen, images, info, tmp_path, module=small(seed=9))
        assert same(weights(continued.module), weights(whole.module))
        loaded = restore(tmp_path, info, small(seed=5))
        assert same(weights(loaded.module), weights(whole.module))

    def test_another_module_does_not_continue(
        self, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        train(given(), images, info, tmp_path, module=small(), until=lambda rows: True)
        other = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 2))
        told = r"this network \(Sequential\); got 1\.weight of 16 x 64 instead of 9 x 64"
        with pytest.raises(TrainingError, match=told):
            train(given(), images, info, tmp_path, module=other)
        deeper = nn.Sequential(*small(), nn.Linear(2, 2))
        with pytest.raises(TrainingError, match=r"got no 4\.weight, no 4\.bias"):
            train(given(), images, info, tmp_path, module=deeper)

    def test_without_one_there_is_no_network(
        self, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match=r"train\.network; expected name or file"):
            train(given(), images, info)
        train(given(), images, info, tmp_path, module=small())
        with pytest.raises(ConfigError, match=r"train\.network; expected name or file"):
            restore(tmp_path, info)


class TestFile:
    def test_a_training_and_its_restored_network(
        self, path: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        trained = train(of_file(path), images, info, tmp_path / "run")
        assert trained.settings.network.label == "net.py:make"
        loaded = restore(tmp_path / "run", info)
        assert same(weights(loaded.module), weights(trained.module))

    def test_normalisation_comes_before_the_module(
        self, path: Path, images: ImageSet, info: DataSetInfo
    ) -> None:
        normalised, plain = (
            train(of_file(path, normalise=normalise), images, info).module
            for normalise in (True, False)
        )
        pixels = images.pixels(slice(0, 4))
        after = normalised[1]((pixels - info.mean[0]) / info.std[0])  # type: ignore[index]
        torch.testing.assert_close(normalised(pixels), after)
        assert isinstance(plain[0], nn.Conv2d)  # type: ignore[index]

    def test_a_changed_file_is_not_continued(
        self, path: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        train(of_file(path), images, info, tmp_path / "run", until=lambda rows: len(rows) == 2)
        path.write_text(FILE.replace("nn.ReLU()", "nn.Tanh()"), encoding="utf-8")
        with pytest.raises(TrainingError, match=r"others in the content of train\.network\.file"):
            train(of_file(path), images, info, tmp_path / "run")
        path.write_text(FILE, encoding="utf-8")
        assert len(train(of_file(path), images, info, tmp_path / "run").metrics) == 4
        path.write_text(FILE.replace("nn.ReLU()", "nn.Tanh()"), encoding="utf-8")
        with pytest.raises(TrainingError, match=r"as it was when the training in .* began"):
            restore(tmp_path / "run", info)

    def test_a_moved_file_is_continued(
        self, path: Path, images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        train(of_file(path), images, info, tmp_path / "run", until=lambda rows: len(rows) == 2)
        moved = tmp_path / "elsewhere" / "net.py"
        moved.parent.mkdir()
        for each in (path, path.with_name("sizes.py")):
            each.rename(moved.with_name(each.name))
        assert len(train(of_file(moved), images, info, tmp_path / "run").metrics) == 4
        moved = moved.rename(moved.with_name("renamed.py"))
        with pytest.raises(ConfigError, match="a Python file that can be read"):
            restore(tmp_path / "run", info)
        assert restore(tmp_path / "run", info, network_file=moved).settings == of_file(moved)

    def test_two_files_of_one_name_do_not_meet(self, path: Path, tmp_path: Path) -> None:
        other = tmp_path / "other" / "net.py"
        other.parent.mkdir()
        other.write_text(FILE.replace("from sizes import WIDTH", "WIDTH = 5"), encoding="utf-8")
        first, second = (own_network.build(each, "make", {"classes": 2}) for each in (path, other))
        assert first[0].out_channels == 3  # type: ignore[index]
        assert second[0].out_channels == 5  # type: ignore[index]

    def test_two_files_that_one_name_imports_do_not_meet(self, path: Path, tmp_path: Path) -> None:
        other = tmp_path / "other" / "net.py"
        other.parent.mkdir()
        other.write_text(FILE, encoding="utf-8")
        other.with_name("sizes.py").write_text("WIDTH = 5\n", encoding="utf-8")
        first, second = (own_network.build(each, "make", {"classes": 2}) for each in (path, other))
        assert first[0].out_channels == 3  # type: ignore[index]
        assert second[0].out_channels == 5  # type: ignore[index]

    @pytest.mark.parametrize(
        ("factory", "arguments", "told"),
        [
            ("nothing", {}, r"a function nothing that makes the network; got only make, broken"),
            ("broken", {"classes": 2}, r"got ValueError: no such network \(line 14\)"),
            ("make", {}, r"make\(\) to return a network; got TypeError: .*'classes'"),
            ("number", {"classes": 2}, r"a torch module \(torch\.nn\.Module\); got a int"),
            ("FILE", {}, "a function FILE"),
        ],
    )
    def test_a_factory_that_fails(
        self, path: Path, factory: str, arguments: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(ConfigError, match=told):
            own_network.build(path, factory, arguments)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("def make(:\n", r"can be imported; got SyntaxError: .*\(line 1\)"),
            (
                "\nimport nowhere_at_all\n",
                r"got ModuleNotFoundError: .*nowhere_at_all'? \(line 2\)",
            ),
            ("x = 1\n", "got no function"),
        ],
    )
    def test_a_file_that_cannot_be_used(self, path: Path, text: str, told: str) -> None:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=told):
            own_network.build(path, "make", {})

    def test_it_is_built_in_train_mode(self, path: Path) -> None:
        path.write_text("import torch\ndef make(): return torch.nn.Linear(1, 1).eval()\n")
        assert own_network.build(path, "make", {}).training

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="a Python file that can be read; got No such file"):
            own_network.build(tmp_path / "no.py", "make", {})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "mlp", "file": "net.py", "factory": "make"}, "got both"),
        ({"file": "net.py"}, "got no factory"),
        ({"factory": "make"}, "got no file"),
        ({"name": "mlp", "arguments": {"a": 1}}, "belong to a network of a file"),
        ({"name": "mlp", "normalise": False}, "belong to a network of a file"),
        ({"file": "net.py", "factory": "make", "width": 2.0}, "belong to a network of the zoo"),
    ],
)
def test_settings_that_exclude_each_other(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        NetworkSettings(**wrong)
