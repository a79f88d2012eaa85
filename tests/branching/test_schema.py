"""α,β-CROWN's YAML schema: what is followed, what is only accepted, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from verify_pipeline.branching.config.abcrown_schema import USED, read_search
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.errors import ConfigError

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "abcrown_configs").glob("*.yaml"))

EVERYTHING = """
general: {device: cpu, complete_verifier: bab}
solver:
  batch_size: 128
  alpha-crown: {iteration: 30, lr_alpha: 0.2, lr_decay: 0.99}
  beta-crown: {iteration: 12, lr_alpha: 0.02, lr_beta: 0.07, lr_decay: 0.97}
bab:
  timeout: 25
  max_domains: 4000
  branching: {method: babsr, candidates: 5, reduceop: max}
attack: {pgd_order: skip, pgd_steps: 7, pgd_restarts: 2}
"""


def test_every_used_key_reaches_its_field() -> None:
    settings = read_search(EVERYTHING).settings
    assert settings.batch == 128
    assert (settings.root.iterations, settings.root.lr_alpha) == (30, 0.2)
    assert settings.root.decay == 0.99
    domain = settings.domain
    assert (domain.iterations, domain.lr_alpha, domain.lr_beta) == (12, 0.02, 0.07)
    assert domain.decay == 0.97
    assert (settings.timeout, settings.max_domains) == (25.0, 4000)
    branching = settings.branching
    assert (branching.method, branching.candidates) == ("babsr", 5)
    attack = settings.attack
    assert (attack.order, attack.steps, attack.restarts) == ("skip", 7, 2)


def test_other_keys_of_the_schema_are_listed_as_ignored() -> None:
    assert read_search(EVERYTHING).ignored == (
        "general.device",
        "general.complete_verifier",
        "bab.branching.reduceop",
    )


@pytest.mark.parametrize(
    ("order", "ignored"),
    [
        ("before", ()),
        ("skip", ()),
        ("after", ("attack.pgd_order: after",)),
        ("middle", ("attack.pgd_order: middle",)),
        ("input_bab", ("attack.pgd_order: input_bab",)),
    ],
)
def test_an_order_of_the_attack_that_is_not_followed_is_ignored(
    order: str, ignored: tuple[str, ...]
) -> None:
    assert read_search(f"attack: {{pgd_order: {order}}}").ignored == ignored


def test_what_a_file_leaves_out_keeps_its_default() -> None:
    assert read_search("bab: {timeout: 5}").settings == SearchSettings(timeout=5)


def test_no_limit_of_domains_is_written_as_infinity() -> None:
    assert read_search("bab: {max_domains: .inf}").settings.max_domains is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("solver:\n  batchsize: 3", r"solver\.batchsize \(line 2\): not a key"),
        ("solver: 3", r"solver \(line 1\): not a key"),
        ("frontier: {size: 3}", r"frontier \(line 1\): not a key"),
        ("solver: {batch_size: 0}", r"solver\.batch_size \(line 1\).*greater than or equal to 1"),
        ("solver: {batch_size: true}", r"solver\.batch_size.*integer"),
        ("bab: {timeout: -1}", r"bab\.timeout.*greater than 0"),
        ("bab: {timeout: .nan}", r"bab\.timeout.*(finite|greater)"),
        ("bab:\n  branching:\n    method: random", r"bab\.branching\.method \(line 3\).*'babsr'"),
        ("bab: {timeout: 1}\nbab: {timeout: 2}", "duplicate key"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_search(text)


def test_all_errors_come_at_once() -> None:
    with pytest.raises(ConfigError, match=r"3 errors(.|\n)*colour(.|\n)*batch_size(.|\n)*timeout"):
        read_search("colour: red\nsolver: {batch_size: -1}\nbab: {timeout: soon}")


def test_every_used_key_is_a_field() -> None:
    for key, field in USED.items():
        value: object = SearchSettings()
        for name in field:
            value = getattr(value, str(name))
        assert value is None or isinstance(value, int | float | str), key


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_the_files_that_come_with_the_package_are_read(path: Path) -> None:
    read = read_search(path)
    assert read.settings.timeout > 0
    assert "general.complete_verifier" in read.ignored
    assert not set(read.ignored) & set(USED)
    marked = [
        line.split(":")[0].strip() for line in path.read_text().splitlines() if "[both]" in line
    ]
    assert marked[1:] == [key.rpartition(".")[2] for key in USED]


def test_files_come_with_the_package() -> None:
    names = {path.stem for path in CONFIGS}
    assert {"default", "mnist_conv_small", "mlp", "resnet"} <= names
    assert len([name for name in names if name.startswith("cnn7")]) == 6
