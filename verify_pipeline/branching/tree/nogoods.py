"""What closed domains teach about open ones: sets of splits that no open domain need contain.

A domain is closed by a bound that often does without some of its splits
(:meth:`Bounder.generalise`). The rest is a *nogood*, as in constraint programming: wherever these
splits hold, the row holds. A domain that contains a nogood is closed; one that contains all of it
but one split may take the opposite of that one, for what it loses is closed (unit propagation, as
in SAT solvers). Zhou et al. 2024 (BICCOS, arXiv:2501.00200) make such sets cutting planes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.branching.tree.subproblems import Domains

MOST = 1024
"""Nogoods of a open row that are kept; the shorter half of them, once there are more."""

ROUNDS = 4
"""Splits that may follow for a domain each time that it is looked at."""

BYTES = 1 << 28
"""What all nogoods may take; then no more are learned."""


class Nogoods:
    """Of all open_rows."""

    def __init__(self) -> None:
        self._of: dict[int, _OfRow] = {}

    def learn(self, open_row: Tensor, splits: Tensor) -> None:
        """Take in sets of splits, ``D x U``, each sufficient to close what it is of.

        Args:
            open_row: ``D``.
            splits: ``D x U`` int8.
        """
        if sum(one.splits.numel() for one in self._of.values()) > BYTES:
            return
        for number in open_row.unique().tolist():
            new = splits[open_row == number]
            known = self._of.get(number)
            self._of[number] = _OfRow(new) if known is None else known.with_more(new)

    def follow(self, domains: Domains) -> tuple[Domains, Tensor]:
        """The domains with the splits that follow, and which of them are closed, ``D`` booleans."""
        splits = domains.splits.clone()
        closed = torch.zeros_like(domains.open_row, dtype=torch.bool)
        for number in domains.open_row.unique().tolist():
            if number in self._of:
                place = (domains.open_row == number).nonzero().squeeze(1)
                splits[place], closed[place] = self._of[number].follow(splits[place])
        return replace(domains, splits=splits), closed

    def forget(self, open_rows: Tensor) -> None:
        """Drop what is known of some open rows, ``G`` booleans."""
        gone = set(open_rows.nonzero().squeeze(1).tolist())
        self._of = {number: one for number, one in self._of.items() if number not in gone}


@dataclass(frozen=True, eq=False)
class _OfRow:
    """Nogoods ``M x U`` int8 of one open_row."""

    splits: Tensor

    def with_more(self, new: Tensor) -> _OfRow:
        splits = torch.cat([self.splits, new])
        if len(splits) > MOST:
            splits = splits[(splits != 0).sum(1).argsort(stable=True)[: MOST // 2]]
        return _OfRow(splits)

    def follow(self, splits: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Nogoods.follow`, of domains of this open_row."""
        nogoods = self.splits.float()
        size = nogoods.abs().sum(1)
        closed = torch.zeros_like(splits[:, 0], dtype=torch.bool)
        for _ in range(ROUNDS):
            own = splits.float()
            agreeing = own @ nogoods.T  # less those that are decided the other way
            decided = own.abs() @ nogoods.abs().T
            closed |= (agreeing == size).any(1)
            one_short = (agreeing == size - 1) & (decided == size - 1) & ~closed.unsqueeze(1)
            some = one_short.any(1)
            if not bool(some.any()):
                break
            which = one_short[some].to(torch.int8).argmax(1)
            missing = self.splits[which] * (splits[some] == 0)
            splits[some] -= missing
        return splits, closed
