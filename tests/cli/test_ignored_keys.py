"""What a search's file asks for and the built-in search does not do is said on standard error."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.typed import command, write_network
from verify_pipeline.branching.config.abcrown_schema import read_search
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.settings import SEARCH_FOLDER

CONFIGS = sorted(path.stem for path in SEARCH_FOLDER.glob("*.yaml"))
IGNORES = "the built-in search ignores what only α,β-CROWN follows"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """f_0 = x_0, f_1 = x_1, and an image on which each margin is 0.2."""
    np.save(tmp_path / "x.npy", np.array([[[[0.6, 0.4]]], [[[0.4, 0.6]]]], dtype=np.float32))
    np.save(tmp_path / "y.npy", np.array([0, 1]))
    return write_network(tmp_path / "n.onnx", np.eye(2))


def certify(network: Path, *more: object) -> tuple[int, str, str]:
    folder = network.parent
    images = ("--images", folder / "x.npy", "--labels", folder / "y.npy", "--device", "cpu")
    return command("certify", network, *images, "--eps", "0.2", "--timeout", "20", *more)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_packages_files_name_every_ignored_key_once(name: str, network: Path) -> None:
    code, _, err = certify(network, "--search", name)
    assert code == 0
    (line,) = [line for line in err.splitlines() if IGNORES in line]
    assert line.startswith(f"warning: {name}: ")
    assert line.rpartition(": ")[2].split(", ") == list(
        read_search(SEARCH_FOLDER / f"{name}.yaml").ignored
    )


def test_nothing_is_said_where_nothing_is_ignored(network: Path) -> None:
    path = network.with_name("mine.yaml")
    path.write_text("attack: {pgd_order: before, pgd_steps: 5}\nbab: {timeout: 5}")
    for more in ((), ("--search", path)):
        code, _, err = certify(network, *more)
        assert (code, IGNORES in err) == (0, False)


def test_the_attack_does_not_run_where_the_file_skips_it(network: Path) -> None:
    path = network.with_name("mine.yaml")
    stages = []
    for order in ("before", "skip"):
        path.write_text(f"attack: {{pgd_order: {order}}}")
        ledger = network.with_name(f"{order}.sqlite")
        code, _, err = certify(network, "--search", path, "--ledger", ledger)
        assert (code, IGNORES in err) == (0, False)
        with Ledger.existing(ledger) as book:
            (run,) = book.runs()
            records = book.records(run.run)
        assert all(record.status.value == "falsified" for record in records)
        stages.append({record.stage for record in records})
    assert stages[0] == {"attack"}
    assert "attack" not in stages[1]


def test_a_property_and_a_set_say_it_too(network: Path) -> None:
    folder = network.parent
    (folder / "p.vnnlib").write_text(
        "(declare-const X_0 Real)\n(declare-const X_1 Real)\n"
        "(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
        "(assert (>= X_0 0.6))\n(assert (<= X_0 0.7))\n"
        "(assert (>= X_1 0.1))\n(assert (<= X_1 0.2))\n(assert (<= Y_0 Y_1))\n"
    )
    (folder / "instances.csv").write_text("n.onnx,p.vnnlib,20\n")
    path = folder / "mine.yaml"
    path.write_text("attack: {pgd_order: after}\nbab: {cut: {enabled: true}}")
    told = f"warning: {path}: {IGNORES}: bab.cut.enabled, attack.pgd_order: after\n"
    one = ("--onnx", network, "--property", folder / "p.vnnlib")
    assert command("vnnlib", *one, "--search", path, "--device", "cpu") == (0, "unsat\n", told)
    results = ("--out", folder / "out.csv", "--device", "cpu")
    code, _, err = command("vnncomp", folder / "instances.csv", *results, "--search", path)
    assert code == 0
    assert err.count(told) == 1
