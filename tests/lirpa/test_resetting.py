"""The quick reset leaves each node as auto_LiRPA's own does."""

from typing import Any

import pytest
import torch
from torch import nn

from verify_pipeline.lirpa import AutoLirpaBounder, load
from verify_pipeline.network import zoo
from verify_pipeline.problem import Box, margin_matrix

pytestmark = pytest.mark.skipif(
    not load().version.startswith("0.3"), reason="the quick reset is for auto_LiRPA 0.3"
)


def bounded(name: str) -> Any:
    """A network that has just been bounded in both directions, with flags of the last bound."""
    torch.manual_seed(0)
    module = zoo.build(name, (1, 8, 8), 3, (0.3,), (0.5,), width=0.2)
    made = AutoLirpaBounder(module, (1, 8, 8))
    images = torch.rand(2, 1, 8, 8)
    rows = margin_matrix(torch.tensor([0, 2]), 3)
    made.forward(images)
    made.ibp(Box.around(images, 0.1), rows)
    made.crown_ibp(Box.around(images, 0.1), rows)
    for node in made._bounded._modules.values():
        node.zero_lA_mtx = True
    return made._bounded


def state(node: nn.Module) -> dict[str, Any]:
    """What the reset may change: names of everything, and values that are no tensors."""
    simple = {k: v for k, v in vars(node).items() if isinstance(v, bool) or k == "patch_size"}
    parameters, buffers = vars(node)["_parameters"], vars(node)["_buffers"]
    return simple | {"": (sorted(vars(node)), sorted(parameters), sorted(buffers))}


@pytest.mark.parametrize("forward_only", [True, False])
@pytest.mark.parametrize("perturbed", [True, False])
@pytest.mark.parametrize("name", ["conv-small", "cnn5"])
def test_nodes_are_as_after_its_own(name: str, perturbed: bool, forward_only: bool) -> None:
    ours, theirs = bounded(name), bounded(name)
    before = [state(node) for node in ours._modules.values()]
    ours._clear_and_set_new(None, forward_only, perturbed)
    type(theirs)._clear_and_set_new(theirs, None, forward_only, perturbed)
    after = [state(node) for node in ours._modules.values()]
    assert after == [state(node) for node in theirs._modules.values()]
    assert after != before


def test_given_bounds_are_set_as_before() -> None:
    ours, theirs = bounded("cnn5"), bounded("cnn5")
    name = next(node.name for node in ours._modules.values() if type(node).__name__ == "BoundRelu")
    given = {name: [torch.zeros(2, 1), torch.ones(2, 1)]}
    ours._clear_and_set_new(given)
    type(theirs)._clear_and_set_new(theirs, given)
    assert torch.equal(ours[name].upper, theirs[name].upper)
    assert [state(n) for n in ours._modules.values()] == [
        state(n) for n in theirs._modules.values()
    ]
