"""What this process and this machine are said to have."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from verify_pipeline.errors import LedgerError
from verify_pipeline.planning.machine import (
    Capacity,
    accelerator_bytes,
    peak_bytes,
    resident_bytes,
    room_beside,
)


def test_memory_grows_with_what_is_held() -> None:
    before = resident_bytes()
    held = torch.ones(64 << 20, dtype=torch.uint8)
    assert resident_bytes() - before > 60 << 20
    assert peak_bytes() >= before + len(held) - (4 << 20)


def test_this_machine_has_more_than_is_free() -> None:
    found = Capacity.this()
    assert found.memory is not None
    assert found.free is not None
    assert 0 < found.free <= found.memory or found.memory > peak_bytes()
    assert found.cores >= 1
    assert found.threads == torch.get_num_threads()
    assert accelerator_bytes(torch.device("cpu")) is None


def test_processes_that_fit() -> None:
    machine = Capacity(memory=10, free=None, cores=1, threads=1)
    assert (machine.fits(3), machine.fits(11)) == (3, 0)
    assert replace(machine, memory=None).fits(3) is None


def test_room_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    assert room_beside(tmp_path / "a" / "b" / "ledger.sqlite") > 0
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="expected a place that can be written"):
        room_beside(tmp_path / "file" / "ledger.sqlite")
