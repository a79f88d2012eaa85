"""What cannot be right is refused with numbers, before any work; a full disk leaves what was."""

import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from verify_pipeline.data import Augmentation, DataSetInfo, ImageSet
from verify_pipeline.errors import ConfigError, DataError, TrainingError
from verify_pipeline.training import checkpoint, train

from .conftest import settings

BATCH_NORM = {"name": "cnn5", "width": 0.06}


def with_batch(batch: int, **others: Any) -> dict[str, Any]:
    return {"epochs": 3, "batch": batch, "milestones": [], **others}


class TestSmallBatches:
    def test_of_one_image_are_refused_with_batch_norm(
        self, images: ImageSet, info: DataSetInfo
    ) -> None:
        with pytest.raises(ConfigError, match=r"batch; expected at least 2.*single image; got 1"):
            train(settings(network=BATCH_NORM, optimiser=with_batch(1)), images, info)

    def test_of_one_image_train_without_batch_norm(
        self, images: ImageSet, info: DataSetInfo
    ) -> None:
        few = images.subset(slice(0, 5))
        trained = train(settings(optimiser=with_batch(1)), few, info)
        assert len(trained.metrics) == 3
        assert all(bool(torch.isfinite(p).all()) for p in trained.module.parameters())

    @pytest.mark.parametrize(("network", "steps"), [(BATCH_NORM, 2), ({"name": "mlp"}, 3)])
    def test_a_last_batch_of_one_image(
        self, network: dict[str, Any], steps: int, images: ImageSet, info: DataSetInfo
    ) -> None:
        # 5 images in twos: the last is alone, and left out only where it has no variance
        seen: list[int] = []

        class Counter:
            def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
                seen.append(steps)

            def step_done(self, step: int, loss: float) -> None: ...

            def epoch_done(self, metrics: dict[str, Any]) -> None: ...

        chosen = settings(network=network, optimiser=with_batch(2, accumulate=2))
        module = train(chosen, images.subset(slice(0, 5)), info, observer=Counter()).module
        assert seen == [steps] * 3
        assert all(bool(torch.isfinite(value).all()) for value in module.state_dict().values())

    def test_one_image_is_too_few_for_batch_norm(self, images: ImageSet, info: DataSetInfo) -> None:
        with pytest.raises(DataError, match=r"at least 2 to train on.*got 1"):
            train(settings(network=BATCH_NORM), images.subset(slice(0, 1)), info)


class TestDataSetInfo:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"shape": (8, 8)}, r"shape \(C, H, W\)"),
            ({"shape": 8}, r"shape \(C, H, W\)"),
            ({"shape": (1, 0, 8)}, "each at least 1"),
            ({"shape": (1.0, 8, 8)}, "each at least 1"),
            ({"classes": 1}, "at least 2 classes; got 1"),
            ({"classes": True}, "at least 2 classes"),
            ({"mean": (0.1, 0.2)}, "mean of 1 finite numbers"),
            ({"mean": (float("nan"),)}, "mean of 1 finite numbers"),
            ({"mean": 0.5}, "mean of 1 finite numbers"),
            ({"mean": ("0.5",)}, "mean of 1 finite numbers"),
            ({"std": (0.1, 0.2)}, "std of 1 finite numbers"),
            ({"std": (0.0,)}, "std > 0"),
            ({"std": (-0.3,)}, "std > 0"),
            ({"std": ()}, "std of 1 finite numbers"),
        ],
    )
    def test_that_makes_no_sense_is_refused(
        self, change: dict[str, Any], told: str, info: DataSetInfo
    ) -> None:
        with pytest.raises(DataError, match=told):
            replace(info, **change)

    @pytest.mark.parametrize("wrong", [{"padding": -1}, {"mode": "mirror"}, {"padding": 1.5}])
    def test_augmentation_too(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(DataError, match="augmentation"):
            Augmentation(**wrong)

    @pytest.mark.parametrize(
        "change", [{"shape": (1, 8, 9)}, {"shape": (3, 8, 8)}, {"classes": 3}, {"classes": 20}]
    )
    def test_of_other_images_is_refused(
        self, change: dict[str, Any], images: ImageSet, info: DataSetInfo, tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match="belongs to these images"):
            train(settings(), images, replace(info, **change), tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestSchedulesThatDoNotFit:
    def test_a_ramp_longer_than_the_training(self) -> None:
        told = r"epsilon\.start \+ epsilon\.length .* at most optimiser\.epochs = 4, got 2 \+ 3 = 5"
        with pytest.raises(ValueError, match=told):
            settings(epsilon={"target": 0.1, "start": 2, "length": 3})
        assert settings(epsilon={"target": 0.1, "start": 2, "length": 2})
        with pytest.raises(ValueError, match=r"got 5 \+ 0 = 5"):
            settings(epsilon={"target": 0.1, "start": 5, "length": 0})

    def test_the_longest_ramp_reaches_epsilon(self, images: ImageSet, info: DataSetInfo) -> None:
        chosen = settings(epsilon={"target": 0.1, "start": 1, "length": 3})
        assert train(chosen, images, info).metrics[-1]["epsilon"] == 0.1

    def test_a_ramp_of_alpha(self) -> None:
        ramp = {"shape": "linear", "start": 2, "length": 3}
        loss = {"name": "mtl-ibp", "alpha": 0.5}
        with pytest.raises(ValueError, match=r"loss\.alpha_ramp\.start .*got 2 \+ 3 = 5"):
            settings(loss={**loss, "alpha_ramp": ramp})
        assert settings(loss={**loss, "alpha_ramp": {**ramp, "length": 2}})
        assert settings(loss={**loss, "alpha_ramp": {**ramp, "shape": "constant"}})

    def test_a_ramp_of_the_clean_loss(self) -> None:
        ramp = {"shape": "smoothed", "start": 2, "length": 3}
        loss = {"name": "ibp", "clean_weight": 0.5}
        with pytest.raises(ValueError, match=r"loss\.clean_ramp\.start .*got 2 \+ 3 = 5"):
            settings(loss={**loss, "clean_ramp": ramp})
        assert settings(loss={**loss, "clean_ramp": {**ramp, "length": 2}})

    def test_a_step_against_certainty_of_a_loss_without_attack(self) -> None:
        told = r"edac_step .* expected one of the losses adversarial, mart, .*, got ibp"
        with pytest.raises(ValueError, match=told):
            settings(loss={"name": "ibp", "edac_step": 0.1})
        assert settings(loss={"name": "cc-ibp", "edac_step": 0.1})

    def test_natural_training_has_no_epsilon(self) -> None:
        assert settings("natural", epsilon={"target": 0.1, "length": 20})

    @pytest.mark.parametrize("milestones", [[4], [2, 5], [50, 60]])
    def test_milestones_behind_the_end(self, milestones: list[int]) -> None:
        late = ", ".join(str(each) for each in milestones if each >= 4)
        with pytest.raises(ValueError, match=f"below optimiser.epochs = 4, got {late}"):
            settings(optimiser={"epochs": 4, "milestones": milestones})

    def test_all_are_told_at_once(self) -> None:
        with pytest.raises(ValueError, match=r"epsilon\.start.*milestones.*watch\.every"):
            settings(
                epsilon={"target": 0.1},
                optimiser={"epochs": 4, "milestones": [4]},
                watch={"every": 1},
            )


class TestFullDisk:
    @pytest.fixture
    def begun(self, images: ImageSet, info: DataSetInfo, tmp_path: Path) -> Path:
        """A folder with a checkpoint of two of four epochs."""

        class Stop:
            def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
                if epoch == 3:
                    raise KeyboardInterrupt

            def step_done(self, step: int, loss: float) -> None: ...

            def epoch_done(self, metrics: dict[str, Any]) -> None: ...

        with pytest.raises(KeyboardInterrupt):
            train(settings(), images, info, tmp_path, observer=Stop())
        return tmp_path

    @pytest.fixture
    def small_files(self) -> Iterator[None]:
        """No file may grow beyond 4 KiB."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        yield
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def check(self, begun: Path, images: ImageSet, info: DataSetInfo) -> None:
        """Training stops with a message; the old checkpoint is whole and nothing else is left."""
        before = {path.name: path.read_bytes() for path in begun.iterdir()}
        with pytest.raises(TrainingError, match=r"with room for it.*Make room"):
            train(settings(), images, info, begun)
        assert {path.name: path.read_bytes() for path in begun.iterdir()} == before
        found = checkpoint.read(begun)
        assert found is not None
        assert found.progress.epoch == 2

    def test_real(
        self, begun: Path, small_files: None, images: ImageSet, info: DataSetInfo
    ) -> None:
        self.check(begun, images, info)

    @pytest.mark.parametrize("kind", [OSError, SafetensorError])
    def test_of_tensors(
        self,
        kind: type[Exception],
        begun: Path,
        monkeypatch: pytest.MonkeyPatch,
        images: ImageSet,
        info: DataSetInfo,
    ) -> None:
        def half(tensors: Any, path: Path) -> None:
            path.write_bytes(b"half")
            raise kind("No space left on device")

        monkeypatch.setattr(checkpoint, "save_file", half)
        self.check(begun, images, info)

    def test_of_the_state(
        self, begun: Path, monkeypatch: pytest.MonkeyPatch, images: ImageSet, info: DataSetInfo
    ) -> None:
        def full(path: Path, content: str) -> None:
            raise DataError(f"file {path}", got="No space left on device")

        monkeypatch.setattr(checkpoint, "write_whole", full)
        self.check(begun, images, info)

    def test_the_same_command_then_ends_with_the_same_weights(
        self, begun: Path, monkeypatch: pytest.MonkeyPatch, images: ImageSet, info: DataSetInfo
    ) -> None:
        self.test_of_tensors(OSError, begun, monkeypatch, images, info)
        monkeypatch.undo()
        resumed = train(settings(), images, info, begun).module.state_dict()
        whole = train(settings(), images, info).module.state_dict()
        assert all(torch.equal(resumed[key], whole[key]) for key in whole)
