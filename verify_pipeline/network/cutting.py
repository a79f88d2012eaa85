"""Cutting a torch module into two parts, behind one of its ReLUs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import fx, nn

from verify_pipeline.errors import ConfigError, NetworkError

_FUNCTIONS = (torch.relu, torch.relu_, nn.functional.relu, nn.functional.relu_, "relu", "relu_")


class ModuleCuts:
    """The places behind ReLUs at which a module can be cut.

    At a cut, everything that the output depends on goes through the ReLU's output. In a residual
    network, these are the ReLUs at the ends of blocks: inside a block, the shortcut goes past.

    Args:
        module: of one input and one output.

    Raises:
        NetworkError: ``torch.fx`` cannot trace the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        try:
            self._graph = fx.Tracer().trace(module)
        except Exception as error:  # torch.fx raises whatever the module's own code does
            raise NetworkError(
                "cutting the network in two",
                expected="a module that torch.fx can trace, such as one without branches on values",
                got=str(error),
                remedy="Choose a loss that bounds the whole network.",
            ) from error
        self._relus = [node for node in self._graph.nodes if self._is_relu(node)]

    @property
    def relus(self) -> int:
        """How many ReLUs the module has."""
        return len(self._relus)

    def behind(self, relus: int) -> nn.Module:
        """The part of the module from a cut on, with so many ReLUs.

        It shares layers and parameters with the module.

        Args:
            relus: of the part; all of them: the module itself.

        Raises:
            ConfigError: there is no such cut; the message names those that there are.
        """
        if relus == self.relus:
            return self._module
        behind = self._behind(self._relus[-1 - relus]) if relus < self.relus else None
        if behind is None:
            got = f"{relus}, but the network has {self.relus}"
            if relus < self.relus:
                place = self._name(self._relus[-1 - relus])
                got = f"{relus}: a connection goes past layer {place}"
            raise ConfigError(
                "loss.taps.classifier_relus, the number of ReLUs behind the cut",
                expected="one of " + ", ".join(self._places()),
                got=got,
            )
        return fx.GraphModule(self._module, behind)

    def _places(self) -> Iterator[str]:
        """Each number of ReLUs that a part can have, with the layer before it."""
        for count, node in enumerate(reversed(self._relus)):
            if self._behind(node) is not None:
                yield f"{count} (behind layer {self._name(node)})"
        yield f"{self.relus} (the whole network)"

    def _behind(self, cut: fx.Node) -> fx.Graph | None:
        """The graph from a node on; None if the output depends on what goes past it."""
        needed = _ancestors(self._graph, cut)
        if any(node.op == "placeholder" for node in needed):
            return None
        graph = fx.Graph()
        copies = {cut: graph.placeholder("latent")}
        for node in self._graph.nodes:
            if node in needed:
                copies[node] = graph.node_copy(node, lambda old: copies[old])
        return graph

    def _is_relu(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self._module.get_submodule(str(node.target)), nn.ReLU)
        return node.target in _FUNCTIONS

    @staticmethod
    def _name(node: fx.Node) -> str:
        return str(node.target if node.op == "call_module" else node.name)


def _ancestors(graph: fx.Graph, cut: fx.Node) -> set[fx.Node]:
    """The output and all that it depends on, except through the cut."""
    found: set[fx.Node] = set()
    waiting = [node for node in graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in found and node is not cut:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found
