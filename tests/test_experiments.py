"""The scripts of experiments/ measure what they say."""

import sys
from pathlib import Path

import losses_against_alpha
import pandas as pd
import properties
import pytest
import torch
import training_costs
from torch import Tensor, nn

from verify_pipeline.data import ImageSet

pytest.importorskip("sklearn")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def images() -> ImageSet:
    pixels = torch.randint(0, 255, (5, 1, 2, 2), generator=torch.Generator().manual_seed(1))
    return ImageSet("own", "test", pixels.to(torch.uint8), torch.tensor([0, 1, 2, 0, 1]), 3)


def counted() -> dict[str, properties.Count]:
    return dict(properties.checks(network(), images(), 0.1))


def test_the_losses_have_their_properties() -> None:
    found = counted()
    assert len(found) == 12
    assert all(each.failed == 0 and each.checked > 0 for each in found.values())


@pytest.mark.parametrize(
    ("wrong", "failing"),
    [
        (lambda adv, ibp, alpha: -alpha * ibp.sum() ** 2, "increases with α"),
        (lambda adv, ibp, alpha: adv.logsumexp(1).mean() + 1, "adversarial and IBP loss"),
    ],
)
def test_a_wrong_loss_is_noticed(
    wrong: object, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(properties.EXPRESSIVE, "CC-IBP", wrong)  # type: ignore[arg-type]
    assert any(
        count.failed for name, count in counted().items() if name.startswith(f"CC-IBP: {failing}")
    )


def test_bounds_above_the_attacks_margins_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = properties.AutoLirpaBounder.ibp

    def optimistic(self: object, box: object, rows: Tensor) -> Tensor:
        return real(self, box, rows) + 10  # type: ignore[arg-type]

    monkeypatch.setattr(properties.AutoLirpaBounder, "ibp", optimistic)
    assert counted()["bound: z_ibp <= z_adv"].failed == 5


def test_a_short_run_writes_its_table_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--data", "digits", "--networks", "mlp", "--losses", "cc-ibp", "--seeds", "1"]
    words += ["--epochs", "1", "--images", "10", "--most", "200", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["properties.py", *words])
    properties.main()
    frame = pd.read_csv(tmp_path / "results" / "experiments" / "properties.csv")
    assert (frame["failed"].sum(), len(frame)) == (0, 12)
    assert str(tmp_path) not in frame["generated_by"][0]
    page = (tmp_path / "docs" / "experiments" / "properties.md").read_text(encoding="utf-8")
    assert "| CC-IBP: increases with α | 200 | 0 |" in page
    assert "Nothing failed" in page


def test_losses_join_their_ends_and_only_one_family_is_a_line() -> None:
    found = losses_against_alpha.loss_curves(network(), images(), 0.1)
    assert 0 < found.adversarial < found.ibp
    line = found.between["MTL-IBP"]
    assert line == pytest.approx(properties.GRID)
    for name in ("CC-IBP", "Exp-IBP"):
        values = found.between[name]
        assert (values[0], values[-1]) == pytest.approx((0, 1))
        assert list(values) == sorted(values)
        assert all(one < other for one, other in zip(values[1:-1], line[1:-1], strict=True))


def test_losses_are_drawn_after_the_first_and_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--network", "mlp", "--epochs", "2", "--images", "20", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["losses_against_alpha.py", *words])
    losses_against_alpha.main()
    name = "properties-digits-losses"
    frame = pd.read_csv(tmp_path / "results" / "experiments" / f"{name}.csv")
    assert len(frame) == 2 * 3 * 21
    assert str(tmp_path) not in frame["generated_by"][0]
    first, last = (frame[frame["moment"] == f"after the {n} epoch"] for n in ("first", "last"))
    assert (
        not first["between"].reset_index(drop=True).equals(last["between"].reset_index(drop=True))
    )
    docs = tmp_path / "docs" / "experiments"
    assert sorted(path.name for path in docs.iterdir()) == [
        "losses-against-alpha.md",
        f"{name}.svg",
    ]
    middle = first[(first["loss"] == "CC-IBP") & (first["alpha"] == 0.5)]["between"].item()
    page = (docs / "losses-against-alpha.md").read_text(encoding="utf-8")
    assert f"CC-IBP is at {middle:.2f} and " in page
    assert f"]({name}.svg)" in page


def test_the_cost_of_trainings_by_hand(tmp_path: Path) -> None:
    seconds = {"a": (1.0, 3.0), "b": (2.0, 2.0), "c": (8.0, 10.0)}
    for name, each in seconds.items():
        (tmp_path / name).mkdir()
        pd.DataFrame({"epoch": [1, 2], "seconds": each}).to_csv(tmp_path / name / "metrics.csv")
    of_ibp = {"train.loss.name": "ibp", "train.seed": 0}
    of_taps = {"train.loss.name": "taps", "train.loss.taps.classifier_relus": 2, "train.seed": 1}
    found = [training_costs.training(of_taps, tmp_path / "c")]
    found += [training_costs.training(of_ibp, tmp_path / name) for name in ("a", "b")]
    table = training_costs.table(found, "python experiments/run.py methods")
    assert table["method"].tolist() == ["ibp", "taps, classifier_relus 2"]
    assert table["seeds"].tolist() == [2, 1]
    assert table["training_seconds"].tolist() == [4.0, 18.0]
    assert table["epoch_seconds"].tolist() == [2.0, 9.0]
    assert table["times_ibp"].tolist() == [1.0, 4.5]
    training_costs.write(table, tmp_path / "costs")
    text = (tmp_path / "costs.md").read_text(encoding="utf-8")
    assert "| taps, classifier_relus 2 | 1 | 18.0 | 9.0 | 4.5 |" in text
    assert "Made by `python experiments/run.py methods`." in text
    assert pd.read_csv(tmp_path / "costs.csv")["times_ibp"].tolist() == [1.0, 4.5]
