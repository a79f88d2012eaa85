"""Bounds and verdicts of tensors, as a user types them in a notebook."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from verify_pipeline import api, queries
from verify_pipeline.errors import ConfigError, DataError, NetworkError

SHAPE = (1, 6, 6)
IMAGES = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(0))
EPSILON = 0.03


def module() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 12), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(12, 3)).eval()


@pytest.fixture(scope="module")
def network() -> api.Network:
    return api.network_from_module(module(), SHAPE)


@pytest.fixture(scope="module")
def labels(network: api.Network) -> Tensor:
    """What the network says, and something else of the last two images."""
    found = network.replay(IMAGES).argmax(1)
    found[-2:] = (found[-2:] + 1) % 3
    return found


def seen(verdict: api.Verdict) -> tuple[Any, ...]:
    """All of a verdict but its seconds."""
    found = verdict.counterexample
    evidence = None if found is None else (found.input.tolist(), found.output.tolist())
    return verdict.status, verdict.stage, verdict.bound, verdict.reason, evidence


class TestVerify:
    def test_is_what_certify_says(self, network: api.Network, labels: Tensor) -> None:
        images = api.ImageSet("mine", "test", IMAGES, labels, 3)
        expected = api.certify(network, images, EPSILON).records
        found = api.verify_batch(network, IMAGES, labels, EPSILON)
        assert [v.status for v in found] == [r.status for r in expected]
        assert [v.bound for v in found] == [r.bound for r in expected]
        assert [v.stage for v in found] == [r.stage for r in expected]
        assert {v.status for v in found} == {api.Status.VERIFIED, api.Status.FALSIFIED}

    def test_a_counterexample_is_in_the_box_and_replays(
        self, network: api.Network, labels: Tensor
    ) -> None:
        verdict = api.verify(network, IMAGES[0], int(labels[0]), 0.4)
        found = verdict.counterexample
        assert verdict.status is api.Status.FALSIFIED
        assert found is not None
        assert found.input.shape == SHAPE
        box = api.Box.around(IMAGES[:1].double(), 0.4)
        assert bool(box.contains(found.input.unsqueeze(0).double()))
        output = network.replay(found.input.unsqueeze(0))[0]
        assert torch.equal(output, found.output)
        margins = api.margins_of_logits(output.unsqueeze(0), labels[:1])
        assert float(margins.min()) == pytest.approx(found.margin)
        assert found.margin <= 0

    def test_takes_an_image_in_every_form(
        self, network: api.Network, labels: Tensor, tmp_path: Path
    ) -> None:
        label = int(labels[0])
        expected = seen(api.verify(network, IMAGES[0], label, EPSILON))
        path = tmp_path / "net.onnx"
        api.export_onnx(module(), path, input_shape=SHAPE)
        forms: list[tuple[Any, Any, Any]] = [
            (network, IMAGES[:1], label),
            (network, IMAGES[0].numpy(), np.int64(label)),
            (network, IMAGES[0].double(), labels[0]),
            (network, IMAGES[0].clone().requires_grad_(), label),
            (network, IMAGES[0, 0], label),
            (network, IMAGES[0].flatten(), label),
            (network, IMAGES[0].tolist(), label),
            (module(), IMAGES[0], label),
            (module(), IMAGES[:1], label),
            (path, IMAGES[0], label),
            (str(path), IMAGES[0], label),
        ]
        for made, image, right in forms:
            found = seen(api.verify(made, image, right, EPSILON))
            # a network of flat images reshapes them, and one more node allows for its rounding
            assert found[2] == pytest.approx(expected[2], rel=1e-12)
            assert (*found[:2], *found[3:]) == (*expected[:2], *expected[3:])

    def test_bytes_are_divided_by_255(self, network: api.Network) -> None:
        raw = (IMAGES[0] * 255).to(torch.uint8)
        label = int(network.replay(raw.unsqueeze(0) / 255).argmax())
        as_bytes = api.verify(network, raw, label, EPSILON)
        assert seen(as_bytes) == seen(api.verify(network, raw.float() / 255, label, EPSILON))

    def test_stages_and_all_settings(self, network: api.Network, labels: Tensor) -> None:
        label = int(labels[0])
        clean = api.verify(network, IMAGES[0], label, EPSILON, stages=("clean",))
        assert (clean.status, clean.reason) == (api.Status.UNKNOWN, api.Reason.NOT_DECIDED)
        settings = api.CertifySettings(epsilon=EPSILON, stages=("clean",), indices="7")
        assert seen(api.verify(network, IMAGES[0], label, settings)) == seen(clean)
        more = api.verify(network, IMAGES[0], label, settings, stages=["clean", "ibp", "crown"])
        assert more.status is api.Status.VERIFIED

    def test_a_short_timeout(self, network: api.Network, labels: Tensor) -> None:
        # the first stage that bounds or attacks has used up a nanosecond
        verdict = api.verify(network, IMAGES[0], int(labels[0]), 0.1, timeout=1e-9)
        assert verdict.reason is api.Reason.TIMEOUT

    def test_another_question(self, network: api.Network, labels: Tensor) -> None:
        normalised = api.Preprocessing(mean=(0.5,), std=(0.5,))
        question = api.Question(api.LinfBall(0.0), api.TopK(2), normalised)
        label = int(network.replay((IMAGES[:1] - 0.5) / 0.5).argsort(1)[0, 1])
        verdict = api.verify(network, IMAGES[0], label, 0.5, question=question)
        assert verdict.status is api.Status.VERIFIED
        first = api.Question(api.LinfBall(0.0), preprocessing=normalised)
        wrong = api.verify(network, IMAGES[0], label, 0.5, question=first)
        assert wrong.status is api.Status.FALSIFIED

    def test_a_tie_behind_a_saturated_end_is_told(self) -> None:
        # the scores 60 x - 5 and 60 x - 10 are apart everywhere; from x = 0.5 on both sigmoids
        # are 1 in float32
        scores = nn.Linear(1, 2)
        with torch.no_grad():
            scores.weight.fill_(60.0)
            scores.bias.copy_(torch.tensor([-5.0, -10.0]))
        made, stages = nn.Sequential(scores, nn.Sigmoid()), ("clean", "ibp")
        verdict = api.verify(made, torch.tensor([0.3]), 0, 0.3, stages=stages)
        assert verdict.status is api.Status.VERIFIED
        assert "tied as deployed" in verdict.detail
        assert "tied" not in api.verify(made, torch.tensor([0.1]), 0, 0.1, stages=stages).detail


@pytest.mark.parametrize("method", ["ibp", "crown", "alpha-crown"])
class TestBounds:
    def test_contain_the_outputs(self, network: api.Network, method: str) -> None:
        box = api.Box.around(IMAGES, EPSILON)
        found = api.bounds(network, box, method)
        assert found.lower.shape == found.upper.shape == (12, 3)
        for points in (box.lower, box.center, box.upper):
            outputs = network.graph(points.double())
            assert bool(((found.lower <= outputs) & (outputs <= found.upper)).all())

    def test_take_pairs_of_tensors_and_arrays(self, network: api.Network, method: str) -> None:
        box = api.Box.around(IMAGES, EPSILON)
        expected = api.bounds(network, box, method)
        pairs: list[Any] = [
            (box.lower, box.upper),
            [box.lower.numpy(), box.upper.numpy()],
            (box.lower.double(), box.upper.clone().requires_grad_()),
        ]
        for pair in pairs:
            found = api.bounds(network, pair, method)
            assert torch.equal(found.lower, expected.lower)
            assert torch.equal(found.upper, expected.upper)

    def test_of_rows(self, network: api.Network, labels: Tensor, method: str) -> None:
        box = api.Box.around(IMAGES, EPSILON)
        margins = api.Specification.margins(labels, 3)
        found = api.bounds(network, box, method, C=margins)
        assert found.lower.shape == (12, 2)
        as_tensor = api.bounds(network, box, method, C=margins.rows)
        assert torch.equal(found.lower, as_tensor.lower)
        # a difference is bounded better than its two parts
        outputs = api.bounds(network, box, method)
        first, second = outputs.lower[:, :1], outputs.upper[:, 1:2]
        row = torch.tensor([[1.0, -1.0, 0.0]])
        difference = api.bounds(network, box, method, C=row)
        assert bool((difference.lower >= first - second - 1e-9).all())
        shifted = api.Specification(
            row.expand(12, 1, 3), torch.full((12, 1), 2.0, dtype=torch.float32)
        )
        moved = api.bounds(network, box, method, C=shifted)
        torch.testing.assert_close(moved.upper, difference.upper + 2)

    def test_prove_what_verify_proves(
        self, network: api.Network, labels: Tensor, method: str
    ) -> None:
        box = api.Box.around(IMAGES.double(), EPSILON)
        proved = api.bounds(network, box, method, C=api.Specification.margins(labels, 3)).lower
        stages = ("clean", "ibp", "crown", "alpha-crown")
        up_to = stages[: stages.index(method) + 1]
        verdicts = api.verify_batch(network, IMAGES, labels, EPSILON, stages=up_to)
        verified = [v.status is api.Status.VERIFIED for v in verdicts]
        assert (proved > 0).all(1).tolist() == verified
        assert any(verified)


MISTAKES: dict[str, tuple[Callable[[api.Network], object], type[Exception], str]] = {
    "label out of range": (
        lambda n: api.verify(n, IMAGES[0], 3, 0.1),
        DataError,
        "expected integers from 0 to 2; got 3",
    ),
    "negative label": (lambda n: api.verify(n, IMAGES[0], -1, 0.1), DataError, "got -1"),
    "label of another type": (
        lambda n: api.verify(n, IMAGES[0], 1.0, 0.1),  # type: ignore[arg-type]
        DataError,
        "labels; expected integers; got torch.float32",
    ),
    "label true": (lambda n: api.verify(n, IMAGES[0], True, 0.1), DataError, "got torch.bool"),
    "two labels": (
        lambda n: api.verify(n, IMAGES[0], [0, 1], 0.1),  # type: ignore[arg-type]
        DataError,
        r"label; expected one integer; got \[0, 1\]",
    ),
    "two images": (
        lambda n: api.verify(n, IMAGES[:2], 0, 0.1),
        DataError,
        r"expected one image, C x H x W; got 2 of them.*verify_batch",
    ),
    "another shape": (
        lambda n: api.verify(n, torch.rand(1, 5, 6), 0, 0.1),
        DataError,
        r"expected the network's input shape \(1, 6, 6\); got \(1, 5, 6\)",
    ),
    "no image": (
        lambda n: api.verify_batch(n, IMAGES[:0], [], 0.1),
        DataError,
        "images; expected at least one; got none",
    ),
    "fewer labels": (
        lambda n: api.verify_batch(n, IMAGES, [0], 0.1),
        DataError,
        r"expected images N x ... and N labels; got \(12, 1, 6, 6\) and \(1,\)",
    ),
    "text": (lambda n: api.verify(n, "cat.png", 0, 0.1), DataError, "image; expected a tensor"),
    "pixels of bytes as floats": (
        lambda n: api.verify(n, IMAGES[0] * 255, 0, 0.1),
        DataError,
        r"expected finite numbers in \[0, 1\].*Scale the images",
    ),
    "nan": (
        lambda n: api.verify(n, IMAGES[0] * torch.nan, 0, 0.1),
        DataError,
        r"expected finite numbers in \[0, 1\]",
    ),
    "integers": (
        lambda n: api.verify(n, torch.zeros(SHAPE, dtype=torch.int32), 0, 0.1),
        DataError,
        "expected uint8, float32 or float64 images",
    ),
    "negative epsilon": (
        lambda n: api.verify(n, IMAGES[0], 0, -0.1),
        ConfigError,
        "epsilon: input should be greater than or equal to 0; got -0.1",
    ),
    "infinite epsilon": (
        lambda n: api.verify(n, IMAGES[0], 0, float("inf")),
        ConfigError,
        "epsilon: ",
    ),
    "epsilon missing": (
        lambda n: api.verify(n, IMAGES[0], 0, None),  # type: ignore[arg-type]
        ConfigError,
        "epsilon: .*got None",
    ),
    "timeout": (
        lambda n: api.verify(n, IMAGES[0], 0, 0.1, timeout=0),
        ConfigError,
        "timeout: input should be greater than 0; got 0",
    ),
    "unknown stage": (
        lambda n: api.verify(n, IMAGES[0], 0, 0.1, stages=("clean", "crwon")),
        ConfigError,
        "'crown'.*got 'crwon'",
    ),
    "stages as a text": (
        lambda n: api.verify(n, IMAGES[0], 0, 0.1, stages="clean"),
        ConfigError,
        "stages: .*got 'clean'",
    ),
    "another tool's stage": (
        lambda n: api.verify(n, IMAGES[0], 0, 0.1, stages=("clean", "abcrown")),
        ConfigError,
        "stage abcrown; expected a stage that runs here",
    ),
    "device": (
        lambda n: api.verify(n, IMAGES[0], 0, 0.1, device="gpu"),
        ConfigError,
        "device 'gpu'; expected auto, cpu",
    ),
    "no network": (
        lambda n: api.verify(None, IMAGES[0], 0, 0.1),  # type: ignore[arg-type]
        NetworkError,
        "expected a Network, a torch module, or the path of an ONNX file; got NoneType",
    ),
    "no such file": (
        lambda n: api.verify("missing.onnx", IMAGES[0], 0, 0.1),
        NetworkError,
        "missing.onnx; expected an ONNX file",
    ),
    "target that is the label": (
        lambda n: api.verify_batch(
            n,
            IMAGES[:2],
            [0, 1],
            0.1,
            question=api.Question(specification=api.Targeted(torch.tensor(1))),
        ),
        DataError,
        "targets; expected other classes than the images' labels; got 1 image",
    ),
    "unknown method": (
        lambda n: api.bounds(n, api.Box.around(IMAGES, 0.1), "Crown"),
        ConfigError,
        "method 'Crown'; expected one of ibp, crown, alpha-crown",
    ),
    "boxes of another shape": (
        lambda n: api.bounds(n, (torch.zeros(2, 5), torch.ones(2, 5))),
        DataError,
        r"expected limits N x \*X with the network's input shape \(1, 6, 6\); got shape \(2, 5\)",
    ),
    "box without a batch axis": (
        lambda n: api.bounds(n, (torch.zeros(SHAPE), torch.ones(SHAPE))),
        DataError,
        "A single box needs a batch axis",
    ),
    "no box": (
        lambda n: api.bounds(n, (IMAGES[:0], IMAGES[:0])),
        DataError,
        "of at least one box",
    ),
    "limits exchanged": (
        lambda n: api.bounds(n, (IMAGES + 0.1, IMAGES)),
        DataError,
        "expected lower <= upper everywhere",
    ),
    "infinite limits": (
        lambda n: api.bounds(n, (IMAGES, IMAGES + torch.inf)),
        DataError,
        "expected finite limits",
    ),
    "one limit": (
        lambda n: api.bounds(n, IMAGES),  # type: ignore[arg-type]
        DataError,
        r"expected a Box, or a pair \(lower, upper\); got Tensor",
    ),
    "rows of other outputs": (
        lambda n: api.bounds(n, api.Box.around(IMAGES, 0.1), C=torch.eye(4)),
        DataError,
        r"rows C; expected S x 3, or 12 x S x 3.*got \(1, 4, 4\)",
    ),
    "rows of other boxes": (
        lambda n: api.bounds(n, api.Box.around(IMAGES, 0.1), C=torch.ones(2, 1, 3)),
        DataError,
        r"rows C; expected S x 3, or 12 x S x 3.*got \(2, 1, 3\)",
    ),
    "no row": (
        lambda n: api.bounds(n, api.Box.around(IMAGES, 0.1), C=torch.ones(0, 3)),
        DataError,
        "with S > 0",
    ),
    "rows that are not finite": (
        lambda n: api.bounds(n, api.Box.around(IMAGES, 0.1), C=torch.full((1, 3), torch.nan)),
        DataError,
        "expected finite coefficients",
    ),
    "memory": (
        lambda n: api.bounds(n, api.Box.around(IMAGES, 0.1), memory=0),
        ConfigError,
        "memory; expected MiB, at least 1; got 0",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(network: api.Network, name: str) -> None:
    act, kind, message = MISTAKES[name]
    with pytest.raises(kind, match=message) as raised:
        act(network)
    assert isinstance(raised.value, api.VerifyPipelineError)


def test_certify_takes_a_module(labels: Tensor) -> None:
    images = api.ImageSet("mine", "test", IMAGES, labels, 3)
    assert api.certify(module(), images, EPSILON).tally.images == 12


def test_nothing_is_left_in_the_folder(
    network: api.Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    queries.verify(network, IMAGES[0], 0, 0.1)
    assert list(tmp_path.iterdir()) == []
