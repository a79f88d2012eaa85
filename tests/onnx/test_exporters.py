"""Files as torch's two exporters, tf2onnx and keras write them; reading them checks their parity.

The exporters that are not installed here are skipped; files in their manner that are made by hand
stand in test_reader.py, and below.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional as F

from tests.onnx_networks import onnx_file
from verify_pipeline.onnx import load_network, network_from_bytes

Array = NDArray[Any]
IMAGE = (3, 8, 8)


class Residual(nn.Module):
    """Two convolutions with batch norms, and a shortcut that changes the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4))
        self.shortcut = nn.Sequential(nn.Conv2d(3, 4, 1, 2, bias=False), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class Encoder(nn.Module):
    """One block of a vision transformer, as timm writes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 12), nn.GELU(), nn.Dropout(), nn.Linear(12, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(self.first(x)).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        x = x + self.out(seen.reshape(batch, tokens, width))
        result: Tensor = x + self.mlp(self.second(x))
        return result


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, one block."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token, self.places = (nn.Parameter(torch.randn(1, n, 8)) for n in (1, 5))
        self.block, self.norm, self.head = Encoder(8, 2), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        logits: Tensor = self.head(self.norm(self.block(x))[:, 0])
        return logits


def dense(features: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 4))


MODULES: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "mlp": (
        (6,),
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ELU(), nn.LogSoftmax(1)),
    ),
    "cnn": (
        IMAGE,
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
            nn.ReLU6(),
            nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            nn.Hardswish(),
            nn.AdaptiveAvgPool2d(1),
            dense(4),
        ),
    ),
    "resnet": (IMAGE, lambda: nn.Sequential(Residual(), nn.AvgPool2d(4), dense(4))),
    "transformer": (IMAGE, VisionTransformer),
    "decoder": (
        IMAGE,
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1),
            nn.GroupNorm(2, 4),
            nn.SiLU(),
            nn.ConvTranspose2d(4, 2, 3, 2, 1, output_padding=1),
            nn.Upsample(scale_factor=1.5, mode="bilinear"),
            nn.Upsample(scale_factor=2),
            dense(2 * 24 * 24),
        ),
    ),
    "signal": (
        (3, 12),
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.PReLU(4), nn.MaxPool1d(2), dense(20)),
    ),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    """A module in evaluation mode, its batch norms not trivial, and inputs."""
    shape, make = MODULES[name]
    torch.manual_seed(0)
    module, x = make(), torch.rand(2, *shape)
    module(x + torch.randn_like(x))
    return module.eval(), x


def agrees(path: Path, module: nn.Module, x: Tensor) -> None:
    network = load_network(path)
    assert network.replay.batched
    expected = module(x).detach()
    assert torch.allclose(network.graph(x.double()).float(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("opset", [14, 17])
def test_torchscript_exporter(name: str, opset: int, tmp_path: Path) -> None:
    module, x = made(name)
    path = tmp_path / "net.onnx"
    torch.onnx.export(
        module,
        (x,),
        path,
        dynamo=False,
        opset_version=opset,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
    )
    agrees(path, module, x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
def test_dynamo_exporter(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="torch's dynamo exporter needs onnxscript")
    module, x = made(name)
    path = tmp_path / "net.onnx"
    shapes = ({0: torch.export.Dim("n")},)
    torch.onnx.export(module, (x,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    agrees(path, module, x)


def keras_model() -> Any:
    """Images with channels last; every layer that keras's own networks have."""
    # keras takes any of its libraries that happens to be installed
    os.environ.setdefault("KERAS_BACKEND", "tensorflow" if find_spec("tensorflow") else "torch")
    keras = pytest.importorskip("keras", reason="keras is not installed here")
    layers = keras.layers
    x = image = keras.Input((8, 8, 3))
    x = layers.Rescaling(2.0, offset=-1.0)(x)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2D(4, 3, strides=2, activation="tanh")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.BatchNormalization()(layers.SeparableConv2D(4, 3, padding="same")(x))
    x = layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="elu")(x)
    x = layers.UpSampling2D(interpolation="bilinear")(layers.ReLU(6.0)(x))
    x = layers.Add()([x, layers.Conv2D(3, 1)(x)])
    x = layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    model(np.zeros((1, 8, 8, 3), np.float32))
    return model


def agrees_with_keras(path: Path, model: Any) -> None:
    network = load_network(path)
    assert network.input_shape == (8, 8, 3)
    x = torch.rand(2, 8, 8, 3)
    expected = torch.tensor(np.asarray(model.predict(x.numpy(), verbose=0)))
    assert torch.allclose(network.graph(x.double()).float(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_keras_exporter(tmp_path: Path) -> None:
    needed = "tf2onnx" if find_spec("tensorflow") else "onnxscript"
    pytest.importorskip(needed, reason=f"keras's exporter needs {needed}")
    model = keras_model()
    model.export(str(tmp_path / "net.onnx"), format="onnx", verbose=False)
    agrees_with_keras(tmp_path / "net.onnx", model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [13, 18])
def test_tf2onnx(opset: int, tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow", reason="tensorflow is not installed here")
    tf2onnx = pytest.importorskip("tf2onnx", reason="tf2onnx is not installed here")
    model = keras_model()
    wanted = [tensorflow.TensorSpec((None, 8, 8, 3), tensorflow.float32, name="x")]
    function = tensorflow.function(lambda x: model(x, training=False), input_signature=wanted)
    path = tmp_path / "net.onnx"
    tf2onnx.convert.from_function(
        function, input_signature=wanted, opset=opset, output_path=str(path)
    )
    agrees_with_keras(path, model)


def test_as_the_dynamo_exporter_writes(normal: Callable[..., Array]) -> None:
    """Its transformer's operators, in its operator set, with shapes that it computes."""
    weights = {
        **{f"int_{i}": np.array([i], np.int64) for i in (0, 1, 2, 3, 4)},
        "minus": np.array([-1], np.int64),
        "end": np.array([2**63 - 1], np.int64),
        "tail": np.array([1, 6], np.int64),
        "root": np.array(0.7, np.float32),
        "token": normal(1, 1, 6),
        "scale": normal(6),
        "shift": normal(6),
        "qkv": normal(6, 18),
        "first": np.array(0),
        "split": np.array([3, 2, 3], np.int64),
        "joined": np.array([4, 6], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["batch"], start=0, end=1),
        node("Concat", ["batch", "tail"], ["expanded"], axis=0),
        node("Expand", ["token", "expanded"], ["tokens"]),
        node("Concat", ["tokens", "x"], ["all"], axis=1),
        node("LayerNormalization", ["all", "scale", "shift"], ["n"], axis=-1, epsilon=1e-6),
        node("MatMul", ["n", "qkv"], ["p"]),
        node("Concat", ["batch", "int_4", "split"], ["heads"], axis=0),
        node("Reshape", ["p", "heads"], ["h"], allowzero=1),
        node("Transpose", ["h"], ["t"], perm=[2, 0, 3, 1, 4]),
        *(
            made
            for i, name in enumerate("qkv")
            for made in (
                node("Slice", ["t", f"int_{i}", f"int_{i + 1}", "int_0", "int_1"], [f"{name}5"]),
                node("Squeeze", [f"{name}5", "int_0"], [name + "4"]),
            )
        ),
        node("Transpose", ["k4"], ["kt"], perm=[0, 1, 3, 2]),
        node("Mul", ["q4", "root"], ["qs"]),
        node("Mul", ["kt", "root"], ["ks"]),
        node("MatMul", ["qs", "ks"], ["scores"]),
        node("Softmax", ["scores"], ["shares"], axis=-1),
        node("MatMul", ["shares", "v4"], ["seen"]),
        node("Transpose", ["seen"], ["back"], perm=[0, 2, 1, 3]),
        node("Concat", ["batch", "joined"], ["flat"], axis=0),
        node("Reshape", ["back", "flat"], ["r"], allowzero=1),
        node("Gelu", ["r"], ["g"]),
        node("Add", ["g", "all"], ["s"]),
        node("Split", ["s"], ["a", "b"], axis=2, num_outputs=2),
        node("ReduceMean", ["a", "int_1"], ["mean"], keepdims=0),
        node("Gather", ["b", "first"], ["cls"], axis=1),
        node("Concat", ["mean", "cls"], ["y"], axis=1),
    ]
    weights["split"] = np.array([3, 2, 3], np.int64)
    network = network_from_bytes(onnx_file(nodes, ("n", 3, 6), weights, opset=20))
    assert network.replay.batched
    assert network.outputs == 6


def test_as_tf2onnx_writes(normal: Callable[..., Array]) -> None:
    """Transposed convolution and resizing between transposes, and shapes through Cast and Slice."""
    weights = {
        "w": normal(4, 3, 3, 3),
        "t": normal(4, 2, 3, 3),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "rest": np.array([288], np.int32),
        "dense": normal(288, 5),
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
        node("Conv", ["a", "w"], ["c"], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("Elu", ["c"], ["e"]),
        node("ConvTranspose", ["e", "t"], ["u"], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Resize", ["u", "", "scales"], ["r"], mode="nearest", nearest_mode="floor"),
        node("Transpose", ["r"], ["l"], perm=[0, 2, 3, 1]),
        node("Shape", ["l"], ["s"]),
        node("Cast", ["s"], ["s32"], to=6),
        node("Slice", ["s32", "zero", "one", "zero"], ["n"]),
        node("Concat", ["n", "rest"], ["target32"], axis=0),
        node("Cast", ["target32"], ["target"], to=7),
        node("Reshape", ["l", "target"], ["f"]),
        node("MatMul", ["f", "dense"], ["m"]),
        node("Softmax", ["m"], ["y"], axis=-1),
    ]
    network = network_from_bytes(onnx_file(nodes, ("n", 6, 6, 3), weights))
    assert network.replay.batched
    assert (network.input_shape, network.outputs) == ((6, 6, 3), 5)
