"""Workers of Ray certify as one process does, also when one of them is killed."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.certify.test_local_workers import SETTINGS, network, pixels, verdicts
from tests.cli.typed import command
from verify_pipeline import api
from verify_pipeline.certify.contract import Observer
from verify_pipeline.certify.hand_out import Lost
from verify_pipeline.certify.ray_workers import RayCrew
from verify_pipeline.errors import ConfigError, DependencyError
from verify_pipeline.problem import Verdict
from verify_pipeline.ray_cluster import Cluster


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ray") / "net.onnx"
    api.export_onnx(network(), file, input_shape=(1, 4, 4))
    return file


@pytest.fixture(scope="module")
def images() -> api.ImageSet:
    return api.ImageSet("own", "test", pixels(), network()(pixels()).argmax(1), 3)


class KillsOne(Observer):
    """Kills the first worker once the first verdict is there."""

    def __init__(self) -> None:
        self.crew: RayCrew | None = None
        self.killed = False

    def decided(self, index: int, verdict: Verdict) -> None:
        if not self.killed and self.crew is not None:
            self.killed = True
            self.crew._ray.kill(self.crew._actors[0])


@pytest.mark.usefixtures("ray")
def test_a_killed_worker_loses_nothing(
    path: Path, images: api.ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer, lost = KillsOne(), list[Lost]()
    start, told = RayCrew.start, RayCrew._told

    def noting(self: RayCrew, worker: int) -> None:
        killer.crew = self
        start(self, worker)

    def seen(self: RayCrew, answer: Any) -> Any:
        events = told(self, answer)
        lost.extend(event for event in events if isinstance(event, Lost))
        return events

    monkeypatch.setattr(RayCrew, "start", noting)
    monkeypatch.setattr(RayCrew, "_told", seen)
    found = api.certify(path, images, SETTINGS, observer=killer, cluster=Cluster(workers=2))
    assert killer.killed
    assert len(lost) == 1
    assert verdicts(found) == verdicts(api.certify(path, images, SETTINGS))


@pytest.mark.usefixtures("ray")
def test_the_command_and_what_it_refuses(path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pixels()[:12].numpy())
    np.save(tmp_path / "y.npy", network()(pixels()[:12]).argmax(1).numpy())
    typed = ["certify", path, "--images", tmp_path / "x.npy", "--labels", tmp_path / "y.npy"]
    typed += ["--epsilon", "0.05", "--ledger", tmp_path / "own.sqlite"]
    code, _, error = command(*typed, "--cores", "2")
    assert (code, "--cores; expected --cluster ray" in error) == (2, True)
    code, _, error = command(*typed, "--cluster", "ray", "--jobs", "0")
    assert (code, "--jobs; expected at least 1" in error) == (2, True)
    code, _, error = command(*typed, "--cluster", "ray", "--address", "127.0.0.1:1")
    assert (code, "Ray's cluster at 127.0.0.1:1; expected one that answers" in error) == (2, True)
    assert not list(tmp_path.glob("*.sqlite*"))
    code, _, error = command(*typed, "--cluster", "ray", "--cores", "100000")
    assert (code, "room for 1 workers of 100000 cores; got room for 0" in error) == (2, True)
    code, output, error = command(*typed, "--cluster", "ray")
    assert code == 0, error
    assert "12" in output


def test_ray_is_an_extra(path: Path, images: api.ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"verify_pipeline\[cluster\]"):
        api.certify(path, images, SETTINGS, cluster=Cluster())
    with pytest.raises(ConfigError, match="--cores; expected at least 1"):
        Cluster(cores=0)


@pytest.mark.parametrize("address", ["", "head", "http://head:8265", "ray://head", "ray://h/x:1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"--address; expected auto, HOST:PORT or ray://HOST:PO"):
        Cluster(address)
    assert [Cluster(each).address for each in ("auto", "ray://h:1", "[::1]:9")]
