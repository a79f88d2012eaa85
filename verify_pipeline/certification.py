"""What a certification is to be called with: from options, a recipe, and a network file's notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from verify_pipeline import data, onnx
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.config import Recipe, checked
from verify_pipeline.data import DataSettings, ImageSet, OwnDataSettings, Split
from verify_pipeline.errors import ConfigError
from verify_pipeline.onnx import Network
from verify_pipeline.run_folders import RECIPE, own_data


@dataclass(frozen=True, eq=False)
class Certification:
    """What ``pipeline.certify`` is to be called with.

    Attributes:
        network: read from its file.
        data: the data set.
        settings: of the certification.
    """

    network: Network
    data: DataSettings | OwnDataSettings
    settings: CertifySettings

    @property
    def data_set(self) -> str:
        """The data set's name."""
        return self.data.full_name

    def load_images(self, split: Split = "test", data_root: Path | None = None) -> ImageSet:
        """One split of the data set."""
        return self.data.images(split, data_root)


def certification(
    path: Path,
    recipe: Recipe | None,
    data_set: str | None,
    options: Mapping[str, Any],
    *,
    needs_epsilon: bool = True,
    check_parity: bool = True,
    class_order: str | None = None,
) -> Certification:
    """Put together what is said in options, in a recipe, and in a network file's own notes.

    Args:
        path: of the ONNX file.
        recipe: that stands in for what the options leave out; the file's notes come last.
        data_set: by name.
        options: fields of the settings, values as in YAML.
        needs_epsilon: whether nothing else says how large the boxes are.
        check_parity: whether the network as read is compared with onnxruntime.
        class_order: ``sorted`` or ``published``, of the data set; None: as its name says.

    Raises:
        NetworkError: the file cannot be used.
        ConfigError: nothing says which data set or which ε, or an option is not as it must be.
    """
    network = onnx.load_network(path, check_parity)
    notes: dict[str, str | None] = {"data": None, "epsilon": None}
    if "verify_pipeline" in network.metadata:  # other exporters mean other things by these words
        notes |= network.metadata
    chosen = _data_of(path, recipe, data_set, notes["data"])
    base = {} if recipe is None else asdict(recipe.certify)
    given = {**base, **options}
    if not needs_epsilon:
        given["epsilon"] = 0.0  # it is not looked at
    if "epsilon" not in given and notes["epsilon"] is None:
        raise ConfigError("epsilon", got="none", remedy="Give it with --epsilon, or a --recipe.")
    settings = checked(CertifySettings, {"epsilon": notes["epsilon"], **given}, "options")
    if class_order is not None:
        chosen = DataSettings(name=data.with_class_order(chosen.full_name, class_order))
    return Certification(network, chosen, settings)


def _data_of(
    path: Path, recipe: Recipe | None, named: str | None, noted: str | None
) -> DataSettings | OwnDataSettings:
    """The data set that an option, a recipe, or a network file's notes name, in this order.

    Own files are found in the recipe, or in the one beside the network's file. A name that is
    nothing's is left to whoever loads the images, as own arrays may have it.

    Raises:
        ConfigError: nothing names a data set, or the notes name one whose files nothing names.
    """
    if recipe is not None and named in (None, recipe.train.data.full_name):
        return recipe.train.data
    name = named or noted
    if name is None:
        raise ConfigError("data set", got="none", remedy="Name it with --data, or a --recipe.")
    own = None if data.knows(name) else own_data([path.parent], name)
    if own is None and named is None and not data.knows(name):
        raise ConfigError(
            f"data set {name!r}, which {path.name} was trained on",
            expected=f"a {RECIPE} beside the file that says where its images are",
            got="none",
            remedy="Name the recipe with --recipe, or the images with --images and --labels.",
        )
    return own or DataSettings(name=name)
