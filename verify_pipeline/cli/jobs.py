"""What commands that certify have in common: the network as it is read, and the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from verify_pipeline.cli.arguments import certify_fields, recipe_of
from verify_pipeline.cli.options import TriedOptions

if TYPE_CHECKING:
    from verify_pipeline.certification import Certification


def certification_of(
    network: Path,
    data: tuple[str | None, str | None],
    tried: TriedOptions,
    epsilon: str | None,
    needs_epsilon: bool = True,
    arithmetic: str | None = None,
) -> Certification:
    """The network as it is read, and the settings.

    Args:
        network: path of the file.
        data: name and class order of the data set, as typed.
        tried: the options.
        epsilon: as typed; None: as the recipe or the file says.
        needs_epsilon: whether nothing else says how large the boxes are.
        arithmetic: in which every evaluation of the file has to be right, as typed; None: as the
            recipe says.

    Raises:
        NetworkError: the file cannot be used.
        ConfigError: nothing says which data set or which ε, or an option is not as it must be.
    """
    from verify_pipeline import certification

    return certification.certification(
        network,
        None if tried.recipe is None else recipe_of(tried.recipe, None),
        data[0],
        certify_fields(
            tried.indices,
            tried.stages,
            epsilon=epsilon,
            timeout=tried.timeout,
            search=tried.search,
            give_up=tried.give_up,
            retry=tried.retry or None,
            arithmetic=arithmetic,
        ),
        needs_epsilon=needs_epsilon,
        check_parity=tried.parity_check,
        class_order=data[1],
    )
