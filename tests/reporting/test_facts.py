"""What is known of a run: from its key, and from the notes of its network's file."""

import json
from dataclasses import replace

import pytest

from verify_pipeline.certify.records import Run, RunInfo
from verify_pipeline.certify.tally import Summary
from verify_pipeline.reporting.facts import epsilon_text, facts
from verify_pipeline.reporting.literature import bibliography, published, published_for

INFO = RunInfo(Run("n" * 64, "mnist", "test", "linf 0.1", "margins", "s"), "file", 0.1, "{}")
NOTES = {
    "verify_pipeline": "1",
    "loss": "mtl-ibp",
    "alpha": "0.01",
    "seed": "3",
    "network": "conv-small",
    "training": json.dumps({"optimiser": {"l1": 1e-5, "milestones": [50, 60]}, "seed": 3}),
}


def of(**notes: str) -> Summary:
    return Summary(replace(INFO, notes=notes), ())


def test_method_and_training_are_those_of_the_file() -> None:
    found = facts(of(**NOTES))
    assert (found.method, found.alpha, found.seed) == ("MTL-IBP", 0.01, 3)
    assert (found.network, found.file, found.box) == ("conv-small", "file", "0.1")
    assert found.training["train.optimiser.l1"] == 1e-5
    assert found.training["train.optimiser.milestones"] == (50, 60)


@pytest.mark.parametrize("loss", ["ibp", "natural", "sabr"])
def test_a_method_without_alpha_has_none(loss: str) -> None:
    assert facts(of(**{**NOTES, "loss": loss, "alpha": "1.0"})).alpha is None


def test_sabr_has_its_lambda() -> None:
    notes = {**NOTES, "loss": "sabr", "training": '{"loss": {"sabr_lambda": 0.4}}'}
    assert facts(of(**notes)).sabr_lambda == 0.4


def test_notes_of_other_exporters_and_broken_ones_say_nothing() -> None:
    foreign = {key: value for key, value in NOTES.items() if key != "verify_pipeline"}
    found = facts(of(**foreign))
    assert (found.method, found.alpha, found.seed, found.network) == ("", None, None, "file")
    for training, seed in (("[", "-"), ("3", "²"), ('{"a":' * 100_000, "9" * 5000)):
        broken = facts(of(**{**NOTES, "training": training, "alpha": "much", "seed": seed}))
        assert (broken.training, broken.alpha, broken.seed) == ({}, None, None)


def test_every_published_row_has_a_citation_and_a_plausible_figure() -> None:
    cited = bibliography()
    for row in published():
        assert f"{{{row.source}," in cited
        assert 0 < row.verified < row.standard < 100


def test_published_rows_are_found_by_data_and_epsilon() -> None:
    rows = published_for([("cifar10", 2 / 255), ("mnist", None)])
    assert {row.method for row in rows} >= {"CC-IBP", "MTL-IBP", "Exp-IBP", "SABR", "STAPS"}
    assert all((row.data, row.epsilon) == ("cifar10", 2 / 255) for row in rows)
    (ours,) = [r for r in rows if (r.method, r.source) == ("CC-IBP", "depalma2024expressive")]
    assert (ours.standard, ours.verified, ours.checked) == (80.09, 63.78, True)


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        (2 / 255, "2/255"),
        (51 / 255, "0.2"),
        (0.4, "0.4"),
        (50 / 255, "50/255"),
        (0.1, "0.1"),
        (1, "1"),
    ],
)
def test_epsilon_is_written_as_people_write_it(epsilon: float, text: str) -> None:
    assert epsilon_text(epsilon) == text
