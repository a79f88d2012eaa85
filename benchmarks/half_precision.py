"""Networks of float32 files in a half precision, as converters write them."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.half_files import HALVES, converted  # noqa: E402
from verify_pipeline.atomic_write import write_whole  # noqa: E402

NAMES = sorted(HALVES)
"""Of the half precisions."""


def halved(network: Path, name: str, folder: Path) -> Path:
    """A file in a folder: the network's weights, inputs and outputs rounded to a half precision.

    Args:
        network: a float32 file.
        name: of the half precision.
        folder: where the file is written; it need not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{network.stem}-{name}.onnx"
    write_whole(path, converted(network.read_bytes(), name))
    return path
