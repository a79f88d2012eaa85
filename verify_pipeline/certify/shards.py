"""A set of images or properties cut for several machines that do not know of each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from verify_pipeline.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """One of several parts of a set.

    Attributes:
        number: of this part, from 1.
        of: how many parts there are.
    """

    number: int
    of: int

    @staticmethod
    def parse(text: str) -> Shard:
        """The shard that ``i/n`` names.

        Raises:
            ConfigError: it is no such text, or i is not in 1 … n.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        numbers = [int(each) for each in found.groups()] if found else [0, 0]
        if not 1 <= numbers[0] <= numbers[1]:
            raise ConfigError("--shard", expected="i/n with i from 1 to n, such as 2/8", got=text)
        return Shard(*numbers)

    def of_indices(self, indices: Sequence[int]) -> Sequence[int]:
        """Every n-th image or property: neighbours, which may be alike, are in different shards.

        Raises:
            ConfigError: fewer of them than shards.
        """
        if len(indices) < self.of:
            raise ConfigError(
                "--shard",
                expected=f"at most {len(indices)} shards, so that none is empty",
                got=str(self.of),
            )
        return indices[self.number - 1 :: self.of]

    @property
    def suffix(self) -> str:
        """What tells the name of its file from those of the others."""
        width = len(str(self.of))
        return f"-{self.number:0{width}}-of-{self.of}"
