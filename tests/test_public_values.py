"""The public value objects as a notebook shows them: one line, no numbers by the page."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

from verify_pipeline import api
from verify_pipeline.certify.brackets import Bracket
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.records import Record, Run, RunInfo
from verify_pipeline.data import info as info_of

IMAGES = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2])
LONGEST = 160


def record(index: int, status: api.Status, reason: api.Reason | None = None) -> Record:
    known = 0.5 if status is api.Status.VERIFIED else None
    margin = -0.25 if status is api.Status.FALSIFIED else None
    words = ("crown", known, margin, 1.5, 60.0, 1, "", "torch 2", 0.0)
    return Record(index, "i" * 32, index, status, reason, *words)


def summary() -> api.Summary:
    info = RunInfo(Run("n" * 64, "toy", "test", "linf 0.1", "margins", "s" * 16), "net", 0.1, "{}")
    records = (
        record(0, api.Status.VERIFIED),
        record(1, api.Status.FALSIFIED),
        record(2, api.Status.UNKNOWN, api.Reason.TIMEOUT),
    )
    return api.Summary(info, records, asked=Extent.of(range(3)))


def radii() -> api.RobustnessDistribution:
    proved = Bracket().with_proof(0.025)
    brackets = (proved, proved.with_counterexample(0.05), Bracket().with_counterexample(0.0))
    images = [api.ImageRadius(n, n, bracket, 0.1) for n, bracket in enumerate(brackets)]
    return api.RobustnessDistribution(summary().info, (0.05, 0.1), tuple(images))


def sweep_run() -> api.SweepRun:
    return api.SweepRun("alpha=1_seed=0", {"train.loss.alpha": "1"}, "done", 2.0, None, summary())


def tune_trial() -> api.TuneTrial:
    return api.TuneTrial(3, "complete", {"train.loss.alpha": "0.123"}, (0.5,))


def values() -> dict[str, object]:
    """One of each public class whose fields hold tensors, or more than a line."""
    recipe = api.load_recipe("digits-cc-ibp")
    found = api.Counterexample(IMAGES[0], torch.zeros(3), -0.25)
    network = api.network_from_module(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), (1, 4, 4))
    return {
        "Box": api.Box.around(IMAGES, 0.1),
        "BoxSet": api.BoxSet("mine", "test", IMAGES, IMAGES, LABELS),
        "Counterexample": found,
        "Evidence": api.Evidence(summary().info, None),
        "FrontComparison": api.FrontComparison(
            (api.MethodFront("cc", (((0.5, 0.5),),), "test", ()),), ""
        ),
        "ImageSet": api.ImageSet("mine", "test", IMAGES, LABELS, 3),
        "ImageRadius": radii().images[1],
        "LinearRows": api.LinearRows(torch.eye(3), torch.zeros(3)),
        "Merged": api.Merged(Path("ledger.sqlite"), (summary().info,), 3, (Extent.of([1]),)),
        "Network": network,
        "OutputBounds": api.bounds(network, api.Box.around(IMAGES, 0.1)),
        "PixelBalls": api.PixelBalls(IMAGES[0]),
        "Question": api.Question(api.PixelBalls(IMAGES[0]), api.Targeted(LABELS)),
        "RobustnessDistribution": radii(),
        "Recipe": recipe,
        "Specification": api.Specification.margins(LABELS, 3),
        "Summary": summary(),
        "SweepResult": api.SweepResult(Path("out"), (sweep_run(),)),
        "SweepRun": sweep_run(),
        "Targeted": api.Targeted(LABELS),
        "Trained": api.Trained(
            nn.Linear(16, 3), [{"epoch": 1}], recipe.train, None, info_of("digits")
        ),
        "TuneResult": api.TuneResult(Path("out"), ("verified",), (tune_trial(),), {}, {}),
        "TuneTrial": tune_trial(),
        "Verdict": api.Verdict(api.Status.FALSIFIED, "attack", 0.1, counterexample=found),
    }


# These print as dataclasses do: single numbers, texts, and settings that can be typed again.
PLAIN = {
    "AbcrownSetup",
    "AlphaCrownSettings",
    "AttackSettings",
    "CertifySettings",
    "ChannelBalls",
    "Cluster",
    "DataSetInfo",
    "DataSettings",
    "ExportReport",
    "FewInputSettings",
    "LinfBall",
    "Margins",
    "MethodFront",
    "Outcome",
    "OwnDataSettings",
    "Preprocessing",
    "ProcessGroup",
    "Shard",
    "StageShares",
    "Tally",
    "TapsSettings",
    "TopK",
    "TrainSettings",
}


def test_every_public_value_is_looked_at() -> None:
    classes = {name for name in api.__all__ if inspect.isclass(getattr(api, name))}
    found = {name for name in classes if dataclasses.is_dataclass(getattr(api, name))}
    assert found == set(values()) | PLAIN


@pytest.mark.parametrize("name", values())
def test_a_repr_is_one_short_line(name: str) -> None:
    shown = repr(values()[name])
    assert shown.startswith(f"{name}(")
    assert "tensor" not in shown
    assert "\n" not in shown
    assert len(shown) <= LONGEST


def test_reprs_say_what_it_is() -> None:
    made = {name: repr(value) for name, value in values().items()}
    assert made["Box"] == "Box(3 of shape (1, 4, 4), float32)"
    assert made["ImageSet"] == "ImageSet(mine test: 3 of shape (1, 4, 4), float32, 3 classes)"
    assert made["BoxSet"] == "BoxSet(mine test: 3 of shape (1, 4, 4), with labels)"
    assert made["Specification"] == "Specification(rows 3 x 2 x 3)"
    assert made["Verdict"] == "Verdict(falsified by attack, margin -0.25, 0.1 s)"
    assert made["Trained"] == "Trained(conv-small by cc-ibp on digits, epochs: 1)"
    assert made["Recipe"] == "Recipe(digits-cc-ibp: conv-small by cc-ibp on digits, ε 0.1)"
    assert made["ImageRadius"] == (
        "ImageRadius(1: verified up to 0.025, falsified from 0.05, step)"
    )
    assert made["RobustnessDistribution"] == (
        "RobustnessDistribution(net on toy test: 3 images, 2 ε up to 0.1, "
        "average radius 0.01667 to 0.05)"
    )
    assert made["Summary"] == (
        "Summary(net on toy test, linf 0.1: 3 images, 3 right, 1 verified, 1 undecided)"
    )
    assert "Graph((1, 4, 4) to 3, " in made["Network"]
    unknown = api.Verdict(api.Status.UNKNOWN, "crown", 2.0, bound=-0.5, reason=api.Reason.TIMEOUT)
    assert repr(unknown) == "Verdict(unknown by crown, timeout, bound -0.5, 2 s)"


def test_the_nodes_of_a_graph_are_short() -> None:
    network = values()["Network"]
    assert isinstance(network, api.Network)
    assert all("tensor" not in repr(node) for node in network.graph.nodes)
    assert repr(network.graph.nodes[-1]).endswith("shape (3,))")


class TestFrame:
    def test_one_row_for_each_image(self) -> None:
        frame = summary().to_frame()
        assert frame["image"].tolist() == [0, 1, 2]
        assert frame["label"].tolist() == [0, 1, 2]
        assert frame["verdict"].tolist() == ["verified", "falsified", "unknown"]
        assert frame["reason"].tolist() == ["", "", "timeout"]
        assert frame["bound"].tolist()[0] == 0.5
        assert frame["bound"].isna().tolist() == [False, True, True]
        assert frame["margin"].isna().tolist() == [True, False, True]
        assert frame["seconds"].sum() == 4.5

    def test_cells_are_plain(self) -> None:
        for column in summary().to_frame():
            kept = summary().to_frame()[column].dropna().tolist()
            assert {type(each) for each in kept} <= {int, float, str, bool}

    def test_every_column_is_documented(self) -> None:
        text = api.Summary.to_frame.__doc__ or ""
        assert all(f"* ``{column}``:" in text for column in summary().to_frame())

    def test_images_without_labels_and_no_image_at_all(self) -> None:
        whole = summary()
        bare = dataclasses.replace(whole.records[0], label=None)
        frame = dataclasses.replace(whole, records=(bare,)).to_frame()
        assert frame["label"].isna().all()
        empty = dataclasses.replace(whole, records=()).to_frame()
        assert list(empty) == list(frame)
        assert empty.dtypes.equals(frame.dtypes)

    def test_of_a_certification(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        made = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        images = api.ImageSet("mine", "test", IMAGES, LABELS, 3)
        result = api.certify(made, images, 0.01, ledger=tmp_path / "ledger.sqlite")
        frame = result.to_frame()
        counts = frame["verdict"].value_counts().to_dict()
        assert counts.get("verified", 0) == result.tally.proved
        assert len(frame) == 3
        (again,) = api.read_ledgers([tmp_path / "ledger.sqlite"])
        assert again.to_frame().equals(frame)
