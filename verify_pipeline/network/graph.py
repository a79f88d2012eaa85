"""A network as a graph of operations. Certification works on it, wherever the network came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor, nn

from verify_pipeline.errors import NetworkError
from verify_pipeline.network.affine_error import Norms
from verify_pipeline.network.norms import norms
from verify_pipeline.network.ops import Input, LinearOp, Op


@dataclass(frozen=True, eq=False)
class Node:
    """A node: one value of the graph and how it is computed.

    Attributes:
        name: a name that is unique in the graph; taken from the ONNX file if there is one.
        op: the operation that computes the value.
        inputs: indices in :attr:`Graph.nodes` of the operation's inputs.
        shape: shape of the value without the batch axis, ``*V``.
    """

    name: str
    op: Op
    inputs: tuple[int, ...]
    shape: tuple[int, ...]

    def __repr__(self) -> str:
        return f"Node({self.name}: {type(self.op).__name__} of {self.inputs}, shape {self.shape})"

    def tensors(self) -> list[Tensor]:
        """The operation's constants."""
        values = (getattr(self.op, f.name) for f in fields(self.op))
        return [value for value in values if isinstance(value, Tensor)]

    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.tensors())


@dataclass(frozen=True, eq=False)
class Graph:
    """A network with one input (node 0) and one output (the last node), ``N x *X`` to ``N x K``.

    Attributes:
        nodes: the nodes in topological order. Node 0 is the :class:`Input`, the last node is the
            output, and every other node is used by a later one.

    Raises:
        NetworkError: the first node is not an input, or a node does not follow its inputs.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not self.nodes or not isinstance(self.nodes[0].op, Input):
            raise NetworkError("graph", expected="an input as its first node", got="none")
        for place, node in enumerate(self.nodes[1:], 1):
            if not node.inputs or not all(0 <= i < place for i in node.inputs):
                raise NetworkError(
                    f"node {node.name}", expected="inputs that come before it", got=str(node.inputs)
                )

    def __repr__(self) -> str:
        return f"Graph({self.input_shape} to {self.outputs}, {len(self.nodes)} nodes)"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input without the batch axis, ``*X``."""
        return self.nodes[0].shape

    @property
    def outputs(self) -> int:
        """K, the number of outputs."""
        return self.nodes[-1].shape[-1]

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs ``N x K`` at inputs ``N x *X``."""
        return self.values(x)[-1]

    def values(self, x: Tensor) -> list[Tensor]:
        """The value of every node at inputs ``N x *X``, in the order of :attr:`nodes`."""
        values: list[Tensor] = [x]
        for node in self.nodes[1:]:
            values.append(node.op(*(values[i] for i in node.inputs)))
        return values

    def users(self) -> list[list[int]]:
        """For each node, the indices of the nodes that have it as an input."""
        users: list[list[int]] = [[] for _ in self.nodes]
        for place, node in enumerate(self.nodes):
            for i in node.inputs:
                users[i].append(place)
        return users

    def to(self, target: torch.dtype | torch.device | str) -> Graph:
        """The same graph in another dtype or on another device."""
        return Graph(
            tuple(
                Node(node.name, node.op.to(target), node.inputs, node.shape) for node in self.nodes
            )
        )

    @cached_property
    def norms(self) -> dict[int, Norms]:
        """Index of a node with one affine operation -> its gain and constant."""
        return {
            place: norms(node.op, self.nodes[node.inputs[0]].shape)
            for place, node in enumerate(self.nodes)
            if isinstance(node.op, LinearOp)
        }

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating-point tensor; float32 if there is none."""
        for node in self.nodes:
            for tensor in node.tensors():
                if tensor.is_floating_point():
                    return tensor.dtype
        return torch.float32

    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return all(node.is_finite() for node in self.nodes)

    def digest(self) -> str:
        """SHA-256 of structure and weights in hexadecimal; names of nodes do not count."""
        sha = hashlib.sha256()
        for node in self.nodes:
            sha.update(f"{type(node.op).__name__}{node.inputs}{node.shape}".encode())
            for f in fields(node.op):
                value = getattr(node.op, f.name)
                if isinstance(value, Tensor):
                    sha.update(str(tuple(value.shape)).encode())
                    sha.update(value.detach().cpu().contiguous().numpy().tobytes())
                else:
                    sha.update(f"{f.name}={value}".encode())
        return sha.hexdigest()


class GraphBuilder:
    """Collects nodes in order, and determines their shapes by running each operation once.

    A subclass may run a cheaper computation whose results have the same shapes.

    Args:
        input_shape: ``*X``.
        name: name of the input node.
        dtype: dtype of the operations' tensors.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        name: str = "input",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._nodes: list[Node] = [Node(name, Input(), (), tuple(input_shape))]
        self._values: list[Tensor] = [torch.zeros(1, *input_shape, dtype=dtype)]

    def add(self, op: Op, *inputs: int, name: str | None = None) -> int:
        """Append a node that applies ``op`` to the nodes ``inputs``; return the node's index."""
        with torch.no_grad():
            value = self._run(op, *(self._values[i] for i in inputs))
        place = len(self._nodes)
        self._nodes.append(Node(name or f"n{place}", op, inputs, tuple(value.shape[1:])))
        self._values.append(value)
        return place

    def _run(self, op: Op, *values: Tensor) -> Tensor:
        return op(*values)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the operations' tensors."""
        return self._values[0].dtype

    def shape(self, place: int) -> tuple[int, ...]:
        """The shape ``*V`` of the node with index ``place``."""
        return self._nodes[place].shape

    def build(self, output: int | None = None) -> Graph:
        """The graph that ends in node ``output``, without unused nodes.

        Args:
            output: index of the output node; None: the node that was added last.
        """
        output = len(self._nodes) - 1 if output is None else output
        used = {0, output}
        for place in range(output, 0, -1):
            if place in used:
                used.update(self._nodes[place].inputs)
        order = sorted(used)
        new_place: Mapping[int, int] = {old: new for new, old in enumerate(order)}
        nodes = (self._nodes[old] for old in order)
        return Graph(
            tuple(Node(n.name, n.op, tuple(new_place[i] for i in n.inputs), n.shape) for n in nodes)
        )


class GraphModule(nn.Module):
    """A graph as a torch module, for tools that need one. Its weights cannot be trained."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``N x K`` at inputs ``N x *X``."""
        return self.graph(x)
