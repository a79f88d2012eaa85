"""Fixtures for all tests."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """One thread per process: the same sums everywhere, and parallel tests do not fight."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; a test that asks for it is skipped without."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not there")
    return folder


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that tests should run on; CUDA is skipped where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def ray() -> None:
    """Ray, where it is installed and starts: it needs shared memory and sockets of its own."""
    pytest.importorskip("ray")
    try:
        started = subprocess.run(
            [sys.executable, "-c", "import ray; ray.init(num_cpus=1, include_dashboard=False)"],
            capture_output=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("Ray does not start here within two minutes")
    if started.returncode != 0:
        pytest.skip(f"Ray does not start here: {started.stderr.decode()[-200:]}")
