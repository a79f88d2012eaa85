"""A graph under rewriting: nodes change in place, inputs and outputs keep their meaning."""

from __future__ import annotations

from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Op


class Rewriter:
    """Holds the nodes of a graph while rules rewrite them.

    A node's *value* may only be rewritten into an equal one, by an operation of values that come
    before it; so the nodes stay in topological order.
    """

    def __init__(self, graph: Graph) -> None:
        self._nodes = list(graph.nodes)
        self._output = len(self._nodes) - 1

    def graph(self) -> Graph:
        """The graph as it is now, without unused nodes."""
        used = sorted({0, *self._used()})
        new = {old: place for place, old in enumerate(used)}
        nodes = (self._nodes[old] for old in used)
        return Graph(
            tuple(Node(n.name, n.op, tuple(new[i] for i in n.inputs), n.shape) for n in nodes)
        )

    def _used(self) -> set[int]:
        used = {self._output}
        for place in range(self._output, 0, -1):
            if place in used:
                used.update(self._nodes[place].inputs)
        return used

    def places(self) -> list[int]:
        """Places of the nodes that the output depends on, without the input."""
        return sorted(self._used() - {0})

    def op(self, place: int) -> Op:
        """Operation of a node."""
        return self._nodes[place].op

    def inputs(self, place: int) -> tuple[int, ...]:
        """Places of a node's inputs."""
        return self._nodes[place].inputs

    def shape(self, place: int) -> tuple[int, ...]:
        """``*V`` of a node."""
        return self._nodes[place].shape

    def only_user(self, place: int) -> bool:
        """Whether one node alone, and not the network's output, uses the value at ``place``."""
        uses = sum(self._nodes[user].inputs.count(place) for user in self._used())
        return uses == 1 and place != self._output

    def replace(
        self, place: int, op: Op, *inputs: int, shape: tuple[int, ...] | None = None
    ) -> bool:
        """Compute the node at ``place`` by ``op`` of ``inputs``; ``shape`` where it changes."""
        old = self._nodes[place]
        assert all(i < place for i in inputs)
        self._nodes[place] = Node(old.name, op, inputs, old.shape if shape is None else shape)
        return True

    def alias(self, place: int, target: int) -> bool:
        """Let everything that uses ``place`` use ``target``, an equal value before it."""
        assert target < place
        if place == self._output:
            self._output = target
        for user, node in enumerate(self._nodes):
            inputs = tuple(target if i == place else i for i in node.inputs)
            if inputs != node.inputs:
                self._nodes[user] = Node(node.name, node.op, inputs, node.shape)
        return True
