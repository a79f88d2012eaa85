"""The proof of one image: intervals, then linear bounds, then optimised slopes, then splits."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from verify_checker.operations import Network
from verify_checker.proof import Proof
from verify_pipeline.bounds import Multipliers
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.search.early_split import are_promising
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.splittable import is_splittable
from verify_pipeline.certify.settings import Plan
from verify_pipeline.network.graph import Graph
from verify_pipeline.proving.aligned import Aligned
from verify_pipeline.proving.cell_tree import prove_by_cells
from verify_pipeline.proving.input_tree import free_inputs, prove_by_input_splits
from verify_pipeline.proving.neuron_slopes import NeuronSlopes
from verify_pipeline.proving.relu_tree import prove_by_splits
from verify_pipeline.proving.root import ProofClaim, Root, Unproved
from verify_pipeline.proving.slopes import optimised_slopes, specification

FIRST, THEN = 0.25, 2.0
"""How many times the seconds of an image splits may take before bounds of its neurons are
optimised, and afterwards. The certification itself has more kinds of splits."""


@dataclass(frozen=True)
class ProverSettings:
    """How long and how a proof is looked for.

    Attributes:
        search: settings of branch and bound.
        seconds: for the splits of an image.
        few_inputs: boxes with at most so many free inputs are split at these.
    """

    search: SearchSettings
    seconds: float
    few_inputs: int

    @staticmethod
    def of(made: Plan) -> ProverSettings:
        """As the certification searched."""
        return ProverSettings(made.search, made.timeout, made.input_split.few_inputs)


class Prover:
    """Makes proofs about one network.

    Args:
        network: as the checker reads it.
        graph: as it is bounded and searched.
        settings: how long and how.
        clock: seconds from some origin.
    """

    def __init__(
        self,
        network: Network,
        graph: Graph,
        settings: ProverSettings,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.network, self._clock = network, clock
        self._graph, self._settings = graph, settings

    def proof(self, claim: ProofClaim) -> Proof:
        """A proof of a claim, which the checker may still not accept.

        Raises:
            Unproved: none is found.
        """
        root = Root.of(self.network, claim)
        if root.open_rows.any():
            root.add_lemmas()
        if not root.open_rows.any():
            return root.proof()
        search, seconds = self._settings.search, self._settings.seconds
        few = free_inputs(root) <= self._settings.few_inputs
        if few or claim.groups is not None:
            prove_by_input_splits(self._graph, root, search, seconds)
        else:
            self._split(root)
        return root.proof()

    def _split(self, root: Root) -> None:
        """Close the open rows of a root by optimised slopes, and by splits of ReLUs."""
        if not root.kinks:
            raise Unproved(
                "the bounds do not suffice, and slopes and splits are recorded for ReLU and leaky "
                "ReLU only, of which no neuron is undecided"
            )
        aligned = Aligned.of(self._graph, root)
        search, seconds, clock = self._settings.search, self._settings.seconds, self._clock
        few = self._domains_before_cells(aligned, root)
        until = clock() + seconds * FIRST
        try:
            start = self._optimised(aligned, root)
            if root.open_rows.any():
                prove_by_splits(aligned, root, start, search, until - clock(), few, clock)
            return
        except Unproved:
            root.add_lemmas(NeuronSlopes(aligned, root, search.tighten).find)
        until = clock() + seconds * THEN
        start = self._optimised(aligned, root)
        if few is not None and root.open_rows.any():
            with suppress(Unproved):
                prove_by_cells(aligned, root, search, until - clock(), clock)
        if root.open_rows.any():
            prove_by_splits(aligned, root, start, search, until - clock(), clock=clock)

    def _optimised(self, aligned: Aligned, root: Root) -> Multipliers:
        """Close rows by optimised slopes; the slopes of those that stay open."""
        before = np.flatnonzero(root.open_rows)
        if not len(before):
            return Multipliers({}, {})
        alpha, slopes = optimised_slopes(aligned, root, self._settings.search.root)
        root.close(intervals=False, alpha=alpha)
        still = torch.from_numpy(root.open_rows[before])
        return Multipliers({p: v[still][None] for p, v in slopes.items()}, {})

    def _domains_before_cells(self, aligned: Aligned, root: Root) -> int | None:
        """After how many domains a search goes on in cells, as in a certification; None: never."""
        early = self._settings.search.early
        if early is None or not is_splittable(aligned.graph):
            return None
        spec = specification(root, np.flatnonzero(root.open_rows)[:1])
        box, bounds = aligned.box(root), aligned.bounds(root)
        instance = SearchInstances(aligned.graph, box, spec, bounds)
        return early.first if bool(are_promising(instance, early)) else None
