"""Settings of own images: arrays, vectors and folders; what they are called; where they lie."""

import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.own_images import ARRAYS, digits, write_arrays, write_folders, write_recipe
from verify_pipeline.config import Recipe, dump, dump_for_others, load_recipe, recipe_text
from verify_pipeline.data import Augmentation, OwnDataSettings
from verify_pipeline.errors import ConfigError, DataError

pytest.importorskip("sklearn")


def own(path: Path, data: str) -> OwnDataSettings:
    chosen = load_recipe(write_recipe(path, data)).train.data
    assert isinstance(chosen, OwnDataSettings)
    return chosen


class TestArrays:
    def test_images_and_what_is_known_of_them(self, tmp_path: Path) -> None:
        write_arrays(tmp_path)
        chosen = own(tmp_path / "r.yaml", ARRAYS)
        info, train, test = chosen.information(), chosen.images("train"), chosen.images("test")
        assert (info.name, info.shape, info.classes) == ("x", (1, 8, 8), 3)
        assert (info.mean, info.std, info.class_names) == ((0.0,), (1.0,), ())
        assert info.augmentation == Augmentation()
        assert (train.name, train.split, test.split) == ("x", "train", "test")
        assert train.images.numpy().tolist() == digits("train")[0].tolist()
        assert test.labels.tolist() == digits("test")[1].tolist()

    def test_everything_else_can_be_said(self, tmp_path: Path) -> None:
        write_arrays(tmp_path)
        more = (
            "name: mine, classes: 4, class_names: [a, b, c, d], mean: [0.25], std: [1/2], "
            "augmentation: {flip: true, padding: 2, mode: edge}, validation: 5, augment: false}"
        )
        chosen = own(tmp_path / "r.yaml", ARRAYS[:-1] + ", " + more)
        info = chosen.information()
        assert (info.name, info.classes, info.class_names) == ("mine", 4, ("a", "b", "c", "d"))
        assert (info.mean, info.std) == ((0.25,), (0.5,))
        assert info.augmentation == Augmentation(flip=True, padding=2, mode="edge")
        assert (chosen.validation, chosen.augment) == (5, False)
        assert chosen.images("test").class_names == ("a", "b", "c", "d")

    def test_classes_are_those_of_the_training_images(self, tmp_path: Path) -> None:
        write_arrays(tmp_path)
        np.save(tmp_path / "test-y.npy", np.zeros(12, np.int64))
        assert own(tmp_path / "r.yaml", ARRAYS).images("test").classes == 3

    def test_vectors(self, tmp_path: Path) -> None:
        write_arrays(tmp_path)
        for name in ("x.npy", "test-x.npy"):
            pixels = np.load(tmp_path / name).reshape(-1, 64)
            np.save(tmp_path / name, pixels.astype(np.float32) / 255)
        chosen = own(tmp_path / "r.yaml", ARRAYS)
        assert chosen.information().shape == chosen.images("test").shape == (64,)

    @pytest.mark.parametrize(
        ("shape", "told"),
        [
            ((120, 8, 8), r"got \(120, 8, 8\)\. Grey images need an axis of channels"),
            ((120, 8, 8, 3), "looks like N x H x W x C.*transpose"),
        ],
    )
    def test_axes_that_cannot_be_meant(
        self, tmp_path: Path, shape: tuple[int, ...], told: str
    ) -> None:
        write_arrays(tmp_path)
        np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
        with pytest.raises(DataError, match=told):
            own(tmp_path / "r.yaml", ARRAYS).images("train")


def colours(name: str, bits: int) -> bytes:
    """The file of one pixel with three channels, each 7 in its first byte."""
    pixel = b"\7" * 3 if bits == 8 else b"\7\x09" * 3
    if name.endswith(".ppm"):
        return b"P6\n1 1\n%d\n" % (2**bits - 1) + pixel
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, bits, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" + pixel)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


class TestFolders:
    @pytest.mark.parametrize("test", ["test", "val"])
    def test_one_folder_a_class(self, tmp_path: Path, test: str) -> None:
        write_folders(tmp_path / "signs", test)
        chosen = own(tmp_path / "r.yaml", "{folder: signs}")
        info, train, images = chosen.information(), chosen.images("train"), chosen.images("test")
        assert (info.name, info.shape, info.classes) == ("signs", (1, 8, 8), 3)
        assert info.class_names == train.class_names == ("one", "two", "zero")
        # class by class, in the order of the names of folders
        places = {"zero": 2, "one": 0, "two": 1}
        expected = sorted(places[("zero", "one", "two")[label]] for label in digits("train")[1])
        assert train.labels.tolist() == expected
        pixels, labels = digits("test")
        ones = pixels[labels == 1]
        assert images.images[: len(ones)].numpy().tolist() == ones.tolist()

    def test_hidden_folders_and_links_upwards_are_not_looked_at(self, tmp_path: Path) -> None:
        write_folders(tmp_path / "signs")
        ones = tmp_path / "signs" / "train" / "one"
        before = own(tmp_path / "r.yaml", "{folder: signs}").images("train")
        shutil.copytree(ones, ones / ".ipynb_checkpoints")
        (ones / "up").symlink_to("..")
        (ones / "itself").symlink_to(".")
        after = own(tmp_path / "r.yaml", "{folder: signs}").images("train")
        assert torch.equal(after.images, before.images)

    @pytest.mark.parametrize("name", ["x.png", "x.ppm"])
    @pytest.mark.parametrize("bits", [8, 16])
    def test_colours_of_more_than_8_bits(self, tmp_path: Path, name: str, bits: int) -> None:
        for split in ("train", "test"):
            for place in ("a", "b"):
                folder = tmp_path / "signs" / split / place
                folder.mkdir(parents=True)
                (folder / name).write_bytes(colours(name, bits))
        chosen = own(tmp_path / "r.yaml", "{folder: signs}")
        if bits == 8:
            assert chosen.images("train").images.tolist() == [[[[7]]] * 3] * 2
            return
        told = r"of 8 bits, without transparency; got mode RGB of more bits"
        with pytest.raises(DataError, match=told):
            chosen.information()

    def test_classes_may_be_called_otherwise(self, tmp_path: Path) -> None:
        write_folders(tmp_path / "signs")
        data = "{folder: signs, class_names: [I, II, O]}"
        chosen = own(tmp_path / "r.yaml", data)
        plain = own(tmp_path / "r.yaml", "{folder: signs}")
        for split in ("train", "test"):
            images = chosen.images(split)
            assert images.class_names == ("I", "II", "O")
            assert images.labels.tolist() == plain.images(split).labels.tolist()

    def test_two_folders(self, tmp_path: Path) -> None:
        write_folders(tmp_path / "signs")
        data = "{train: {folder: signs/train}, test: {folder: signs/test}, name: s}"
        chosen = own(tmp_path / "r.yaml", data)
        assert (chosen.full_name, len(chosen.images("test"))) == ("s", 12)

    def test_a_class_without_test_images_keeps_its_number(self, tmp_path: Path) -> None:
        write_folders(tmp_path / "signs")
        for path in sorted((tmp_path / "signs" / "test" / "one").iterdir()):
            path.unlink()
        (tmp_path / "signs" / "test" / "one").rmdir()
        test = own(tmp_path / "r.yaml", "{folder: signs}").images("test")
        assert (set(test.labels.tolist()), test.classes) == ({1, 2}, 3)

    def test_colour_is_red_green_blue_and_a_size_is_height_and_width(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            for place, name in enumerate("ab"):
                inside = tmp_path / "c" / split / name
                inside.mkdir(parents=True)
                Image.new("RGB", (6 + place, 4), (10, 20, 30)).save(inside / "i.PNG")
        images = own(tmp_path / "r.yaml", "{folder: c, size: [2, 3]}").images("test")
        assert images.shape == (3, 2, 3)
        assert images.images[0, :, 0, 0].tolist() == [10, 20, 30]

    def test_palettes_and_black_and_white_are_what_they_show(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            for name, mode in (("a", "P"), ("b", "RGB")):
                inside = tmp_path / "c" / split / name
                inside.mkdir(parents=True)
                image = Image.new("RGB", (2, 2), (255, 0, 0))
                (image.convert(mode) if mode == "P" else image).save(inside / "i.png")
        images = own(tmp_path / "r.yaml", "{folder: c}").images("test").images
        assert torch.equal(images[0], images[1])

    def test_other_files_and_hidden_ones_are_not_looked_at(self, tmp_path: Path) -> None:
        write_folders(tmp_path / "signs")
        for name in ("notes.txt", ".hidden.png"):
            (tmp_path / "signs" / "train" / "one" / name).write_bytes(b"no image")
        (tmp_path / "signs" / "train" / ".cache").mkdir()
        assert len(own(tmp_path / "r.yaml", "{folder: signs}").images("train")) == 120


class TestPaths:
    def test_count_from_the_recipe(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("deep").mkdir()
        chosen = own(Path("deep") / "r.yaml", "{folder: ../signs}")
        assert chosen.folder == str(tmp_path / "signs")

    def test_of_a_set_value_on_a_named_recipe_count_from_here(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        chosen = load_recipe("digits-cc-ibp", {"train.data": "{folder: signs}"}).train.data
        assert isinstance(chosen, OwnDataSettings)
        assert chosen.folder == str(tmp_path / "signs")

    @pytest.mark.parametrize("folder", ["~nobody-there/signs", "/signs", "./a/../signs"])
    def test_are_absolute(self, tmp_path: Path, folder: str) -> None:
        chosen = own(tmp_path / "r.yaml", f"{{folder: {folder}}}")
        assert Path(chosen.folder or "").is_absolute()
        assert ".." not in (chosen.folder or "")

    def test_stay_what_they_are_in_a_copy(self, tmp_path: Path) -> None:
        recipe = load_recipe(write_recipe(tmp_path / "r.yaml", ARRAYS))
        (tmp_path / "copy").mkdir()
        for number, text in enumerate((dump(recipe), recipe_text(tmp_path / "r.yaml"))):
            copy = tmp_path / "copy" / f"{number}.yaml"
            copy.write_text(text, encoding="utf-8")
            assert load_recipe(copy).train == recipe.train

    def test_are_not_in_what_others_read(self, tmp_path: Path) -> None:
        for data in (ARRAYS, "{folder: signs}"):
            recipe = load_recipe(write_recipe(tmp_path / "r.yaml", data))
            text = dump_for_others(recipe)
            assert str(tmp_path) not in text
            assert ("signs" if "signs" in data else "test-x.npy") in text

    def test_a_recipe_without_own_paths_is_copied_as_it_is(self, tmp_path: Path) -> None:
        path = write_recipe(tmp_path / "r.yaml", "{name: digits}  # a remark")
        assert recipe_text(path) == path.read_text(encoding="utf-8")


TWO = "{images: x.npy, labels: y.npy}"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("{name: digits, folder: signs}", "train.data.name (line 2): expected a name of its own"),
        ("{folder: digits}", "train.data (line 2): the files would name this data set 'digits'"),
        (f"{{train: {TWO}}}", "train.data (line 2): expected train and test, or a folder"),
        (f"{{train: {TWO}, test: {{folder: a}}}}", "expected train and test of one kind"),
        (f"{{train: {TWO}, test: {TWO}, size: [3, 3]}}", "size is for images of folders"),
        (f"{{train: {TWO}, test: {{images: x.npy}}}}", "train.data.test.labels (line 2): missing"),
        ("{folder: a, mean: [x]}", "train.data.mean[0] (line 2): expected a finite number"),
        ("{folder: a, std: [0]}", "train.data.std[0] (line 2): input should be greater than 0"),
        ("{folder: a, classes: 1}", "train.data.classes (line 2): input should be greater than"),
        ("{folder: a, sise: [3, 3]}", "train.data.sise (line 2): unknown key; expected one of fol"),
        ("{folder: a, augmentation: {flop: true}}", "augmentation.flop (line 2): unknown key"),
        ("{train: {folders: a}, test: {folder: b}}", "train.data.train.folders (line 2): unknown"),
        ("{name: digits, validaton: 3}", "did you mean validation?"),
        ("3", "train.data (line 2): expected a mapping of keys to values; got 3"),
    ],
)
def test_mistakes_are_told_by_their_dotted_path(tmp_path: Path, data: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(write_recipe(tmp_path / "r.yaml", data))
    assert told in str(caught.value)


def test_settings_of_own_images_can_be_made_in_python(tmp_path: Path) -> None:
    write_folders(tmp_path / "signs")
    chosen = OwnDataSettings(folder=str(tmp_path / "signs"))
    train = load_recipe("digits-cc-ibp").train
    recipe = Recipe(
        name="r",
        train=type(train)(**{**_fields(train), "data": chosen}),
        certify=load_recipe("digits-cc-ibp").certify,
    )
    assert len(recipe.train.data.images("test")) == 12
    json.dumps(dump(recipe))


def _fields(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}
