"""Writing a module: the same outputs, the same bytes, no file where that fails."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from verify_pipeline import _version
from verify_pipeline.errors import DataError, NetworkError
from verify_pipeline.network import zoo
from verify_pipeline.onnx import check, export_onnx, load_network, network_from_module

SHAPE = (1, 8, 8)


def randomise_statistics(module: nn.Module) -> None:
    """Running statistics and weights of batch normalisation far from 0 and 1."""
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            for tensor in (norm.running_mean, norm.bias.data):
                tensor.normal_(0.0, 0.3)
            for tensor in (norm.running_var, norm.weight.data):
                tensor.uniform_(0.3, 2.0)


def convolutional() -> nn.Module:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 8, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )
    randomise_statistics(module)
    return module


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("batch_norm", [None, True, False])
@pytest.mark.parametrize("name", zoo.names())
def test_the_zoo_goes_out_and_in(name: str, batch_norm: bool | None, tmp_path: Path) -> None:
    module = zoo.build(name, (1, 28, 28), 10, (0.13,), (0.31,), 0.25, batch_norm)
    randomise_statistics(module)
    images = torch.rand(20, 1, 28, 28)
    report = export_onnx(module, tmp_path / "net.onnx", (1, 28, 28), {}, images)
    assert report.inputs == 36
    assert report.relative_difference < 1e-5
    network = load_network(report.path)
    assert network.digest == report.digest
    assert (network.input_shape, network.outputs) == ((1, 28, 28), 10)
    assert network.replay.batched
    assert check(network, name) < 1e-5
    with torch.no_grad():
        expected = module.eval()(images)
    torch.testing.assert_close(
        network.graph(images.double()), expected.double(), rtol=1e-4, atol=1e-5
    )
    left = [n.op_type for n in onnx.load(report.path).graph.node].count("BatchNormalization")
    assert left == (4 if name == "vit" and batch_norm is not False else 0)


def test_the_file_says_where_it_comes_from(tmp_path: Path) -> None:
    notes = {"recipe": "digits", "seed": "3"}
    report = export_onnx(convolutional(), tmp_path / "new" / "net.onnx", SHAPE, notes)
    model = onnx.load(report.path)
    onnx.checker.check_model(model)
    assert {p.key: p.value for p in model.metadata_props} == {
        **notes,
        "verify_pipeline": _version.__version__,
    }
    assert model.opset_import[0].version == 13
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "batch"
    assert report.digest == hashlib.sha256(report.path.read_bytes()).hexdigest()
    assert [path.name for path in report.path.parent.iterdir()] == ["net.onnx"]


def test_batch_norm_ends_in_the_layer_before_it(tmp_path: Path) -> None:
    """W x + b, then (· - m) g / sqrt(v + e) + t, by hand."""
    norm = nn.BatchNorm1d(2, eps=0.25)
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0], [-4.0]]))
        layer.bias.copy_(torch.tensor([1.0, 0.0]))
        norm.running_mean.copy_(torch.tensor([3.0, 1.0]))  # type: ignore[union-attr]
        norm.running_var.copy_(torch.tensor([3.75, 0.0]))  # type: ignore[union-attr]
        norm.weight.copy_(torch.tensor([1.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.0, 7.0]))
    export_onnx(nn.Sequential(layer, norm), tmp_path / "net.onnx", (1,), {})
    model = onnx.load(tmp_path / "net.onnx")
    assert [node.op_type for node in model.graph.node] == ["Gemm"]
    weight, bias = (onnx.numpy_helper.to_array(t).tolist() for t in model.graph.initializer)
    assert weight == [[1.0], [-4.0]]
    assert bias == [-1.0, 6.0]


def test_what_others_use_keeps_its_batch_norm(tmp_path: Path) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
            randomise_statistics(self)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            out: Tensor = y + self.norm(y)
            return out

    report = export_onnx(Both(), tmp_path / "net.onnx", (3,), {})
    operators = [node.op_type for node in onnx.load(report.path).graph.node]
    assert operators == ["Gemm", "BatchNormalization", "Add"]


def test_same_weights_same_bytes(tmp_path: Path) -> None:
    """Also from another process, whatever it did before."""
    script = (
        "import sys, torch; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_export import SHAPE, convolutional\n"
        "from verify_pipeline.onnx import export_onnx\n"
        "torch.manual_seed(0)\n"
        "export_onnx(convolutional(), Path(sys.argv[1]), SHAPE, {'b': '1', 'a': '2'})\n"
    )
    elsewhere = tmp_path / "elsewhere.onnx"
    here = Path(__file__)
    subprocess.run(
        [sys.executable, "-c", script, str(elsewhere), str(here.parent)],
        check=True,
        cwd=here.parents[2],
        env={"PYTHONPATH": str(here.parents[2]), "OMP_NUM_THREADS": "1"},
    )
    module = convolutional()
    reports = [
        export_onnx(module, tmp_path / f"{i}.onnx", SHAPE, {"a": "2", "b": "1"}) for i in range(2)
    ]
    assert {report.digest for report in reports} == {
        hashlib.sha256(elsewhere.read_bytes()).hexdigest()
    }


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = convolutional().double().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    export_onnx(module, tmp_path / "net.onnx", SHAPE, {})
    assert module.training
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["4.weight", "1.running_var"])
def test_weights_that_are_not_finite(value: float, name: str, tmp_path: Path) -> None:
    module = convolutional()
    module.state_dict()[name].view(-1)[0] = value
    with pytest.raises(NetworkError, match=f"weight {name}; expected finite numbers"):
        export_onnx(module, tmp_path / "net.onnx", SHAPE, {})
    assert not list(tmp_path.iterdir())


class Remembers(nn.Module):
    """Gives another answer each time: no file can be equal to it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.layer(x) * self.calls
        return out


class OnlyRealInputs(nn.Module):
    """Branches on its values; tracing keeps one branch, which only inputs above 5 leave."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if bool((x > 5).any()) else x


class FixedBatch(nn.Module):
    """Reshapes to a batch of one."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, 4)


class NotInOnnx(nn.Module):
    """Uses what no operator set has."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.special.bessel_j0(x)
        return out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Remembers, "Remembers; expected an ONNX file whose outputs differ by at most 0.0001"),
        (FixedBatch, "a module for batches of any size"),
        (NotInOnnx, "NotInOnnx; expected a module that torch can export"),
    ],
)
def test_modules_that_cannot_be_written(
    make: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    with pytest.raises(NetworkError, match=message):
        export_onnx(make(), tmp_path / "net.onnx", (4,), {})
    assert not list(tmp_path.iterdir())


def test_real_inputs_are_compared_too(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    assert export_onnx(OnlyRealInputs(), path, (4,), {}).max_difference == 0
    path.unlink()
    with pytest.raises(NetworkError, match=r"got a difference of 0\.0703"):
        export_onnx(OnlyRealInputs(), path, (4,), {}, torch.full((1, 4), 6.0))
    assert not list(tmp_path.iterdir())


def test_a_failed_export_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    digest = export_onnx(convolutional(), path, SHAPE, {}).digest
    with pytest.raises(NetworkError):
        export_onnx(Remembers(), path, (4,), {})
    assert load_network(path).digest == digest


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="a place that can be written"):
        export_onnx(convolutional(), tmp_path / "file" / "net.onnx", SHAPE, {})


def test_newer_operators_where_the_module_needs_them() -> None:
    """torch writes attention in one call only for later operator sets."""

    class Attends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    network = network_from_module(Attends(), (2, 5, 4))
    x = torch.randn(3, 2, 5, 4)
    expected = Attends()(x).flatten(1)
    torch.testing.assert_close(network.graph(x.double()), expected.double(), rtol=1e-5, atol=1e-5)


def test_multi_head_attention_of_torch() -> None:
    class Attends(nn.Module):
        def __init__(self, batch_first: bool) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=batch_first)

        def forward(self, x: Tensor) -> Tensor:
            turned = x if self.attention.batch_first else x.transpose(0, 1)
            out: Tensor = self.attention(turned, turned, turned, need_weights=False)[0]
            return out if self.attention.batch_first else out.transpose(0, 1)

    for batch_first in (True, False):
        module = Attends(batch_first).eval()
        network = network_from_module(module, (5, 6))
        x = torch.randn(3, 5, 6)
        with torch.no_grad():
            expected = module(x).flatten(1)
        torch.testing.assert_close(
            network.graph(x.double()), expected.double(), rtol=1e-4, atol=1e-5
        )


def test_torchscript_modules() -> None:
    module = convolutional().eval()
    script = torch.jit.trace(module, torch.zeros(1, *SHAPE))
    x = torch.rand(2, *SHAPE)
    network = network_from_module(script, SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(
            network.graph(x.double()), module(x).double(), rtol=1e-4, atol=1e-5
        )
