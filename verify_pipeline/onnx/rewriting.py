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
        self._users: list[list[int]] | None = None

    def graph(self) -> Graph:
        """The graph as it is now, without unused nodes."""
        used = [place for place in range(len(self._nodes)) if self.needed(place)]
        new = {old: place for place, old in enumerate(used)}
        nodes = (self._nodes[old] for old in used)
        return Graph(
            tuple(Node(n.name, n.op, tuple(new[i] for i in n.inputs), n.shape) for n in nodes)
        )

    def _users_of(self, place: int) -> list[int]:
        """The needed nodes that take the value at ``place``, each as often as it does."""
        if self._users is None:
            self._users = [[] for _ in self._nodes]
            for user in range(self._output, 0, -1):
                if user == self._output or self._users[user]:
                    for i in self._nodes[user].inputs:
                        self._users[i].append(user)
        return self._users[place]

    def __len__(self) -> int:
        return len(self._nodes)

    def needed(self, place: int) -> bool:
        """Whether the output depends on the node; the input counts as needed."""
        return place in (0, self._output) or bool(self._users_of(place))

    def only_user(self, place: int, user: int) -> bool:
        """Whether ``user`` takes the value at ``place`` once, and nothing else does."""
        return place != self._output and self._users_of(place) == [user]

    def op(self, place: int) -> Op:
        """Operation of a node."""
        return self._nodes[place].op

    def inputs(self, place: int) -> tuple[int, ...]:
        """Places of a node's inputs."""
        return self._nodes[place].inputs

    def shape(self, place: int) -> tuple[int, ...]:
        """``*V`` of a node."""
        return self._nodes[place].shape

    def replace(
        self, place: int, op: Op, *inputs: int, shape: tuple[int, ...] | None = None
    ) -> bool:
        """Compute the node at ``place`` by ``op`` of ``inputs``; ``shape`` where it changes."""
        self._users = None
        old = self._nodes[place]
        assert all(i < place for i in inputs)
        self._nodes[place] = Node(old.name, op, inputs, old.shape if shape is None else shape)
        return True

    def alias(self, place: int, target: int) -> bool:
        """Let everything that uses ``place`` use ``target``, an equal value before it."""
        assert target < place
        self._users = None
        if place == self._output:
            self._output = target
        for user, node in enumerate(self._nodes):
            inputs = tuple(target if i == place else i for i in node.inputs)
            if inputs != node.inputs:
                self._nodes[user] = Node(node.name, node.op, inputs, node.shape)
        return True
