"""Lemmas with optimised slopes: α-CROWN for each bound of each undecided neuron.

They cost much more to find than lemmas with the usual lines, and their multipliers make proofs
larger, so that they are for claims that splits do not show otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from verify_checker.regions import Regions
from verify_pipeline.bounds import OptimiseSettings, StopRule
from verify_pipeline.bounds.linear.backward import of_neurons
from verify_pipeline.bounds.optimise.alpha_beta import begin
from verify_pipeline.bounds.optimise.ascent import climb
from verify_pipeline.bounds.optimise.variables import ReluVariables
from verify_pipeline.bounds.relaxations.relaxed_graph import linearise
from verify_pipeline.proving.aligned import Aligned
from verify_pipeline.proving.root import Floats, Places, Root

AT_ONCE = 128
"""Bounds that are optimised together."""


@dataclass(frozen=True, eq=False)
class NeuronSlopes:
    """Finds slopes for bounds of neurons; nothing rests on how good they are.

    Args:
        aligned: the graph in which they are found.
        root: the box; its bounds so far serve where no better ones are known yet.
        settings: of the ascent.
    """

    aligned: Aligned
    root: Root
    settings: OptimiseSettings

    def find(self, regions: Regions, place: int, numbers: Places) -> dict[int, Floats]:
        """Slopes for the bounds below, then those above, of some neurons of a value.

        Args:
            regions: with bounds of all values before it.
            place: of the value.
            numbers: the neurons, ``k`` places in the flattened value.

        Returns:
            Place of an earlier value that feeds an activation -> ``2 k x neurons``, in [0, 1].
        """
        graph, single = self.aligned.graph, torch.float32
        of_value = dict(zip(self.aligned.values, self.aligned.activations, strict=True))
        source = graph.nodes[of_value[place]].inputs[0]
        exact_box = self.aligned.box(self.root)
        linear = linearise(graph, exact_box, self.aligned.bounds(self.root, regions)).to(single)
        box = exact_box.to(single)
        indices = torch.from_numpy(np.tile(numbers, 2))
        sides = torch.ones(len(indices), dtype=single)
        sides[len(numbers) :] = -1
        earlier = [v for v in self.aligned.values if of_value[v] < of_value[place]]
        found = {
            v: np.zeros((len(indices), self.root.network.nodes[v].size), dtype=np.float64)
            for v in earlier
        }
        for part in torch.arange(len(indices)).split(AT_ONCE):
            asked = of_neurons(linear, source, indices[part][None], sides[part][None])
            choices = begin(linear, asked, self.settings, None, None)
            until = StopRule(torch.full((1,), torch.inf))
            best = climb(linear, box, asked, self.settings, choices, until)
            for v in earlier:
                choice = best.get(of_value[v])
                if isinstance(choice, ReluVariables) and choice.alpha is not None:
                    columns = choice.alpha.cells.neuron.numpy()
                    rows = part.numpy()[:, None]
                    found[v][rows, columns[None]] = choice.alpha.value.T.double().numpy()
        return found
