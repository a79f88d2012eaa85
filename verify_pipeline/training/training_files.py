"""What a training keeps in its folder while it runs, and where it goes on from there."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.process_group import ProcessGroup
from verify_pipeline.training import checkpoint
from verify_pipeline.training.checkpoint import Parts, TrainingProgress
from verify_pipeline.training.identity import Identity, Lineage, inherited_epochs
from verify_pipeline.training.keeping import Keeper
from verify_pipeline.training.selection import Rows
from verify_pipeline.training.settings import TrainSettings
from verify_pipeline.training.starting import Parent, StartFromParent


class TrainingFiles:
    """The checkpoints and metrics of one training.

    Args:
        folder: of the training; None: nothing is written, and nothing is continued.
        settings: of the training.
        identity: that a checkpoint in the folder has to have.
        parent: what a new training starts from; None: fresh weights.
        group: of processes, of which the first reads and writes.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: TrainSettings,
        identity: Identity,
        parent: Parent | None,
        group: ProcessGroup,
    ) -> None:
        self._folder, self._settings, self._identity = folder, settings, identity
        self._parent, self._group = parent, group
        self.lineage: Lineage = ()
        self._keeper = self._made_keeper()

    def begin(self, parts: Parts) -> TrainingProgress:
        """Put the state of the folder's checkpoint, or of the parent, into the parts.

        Returns:
            Where the training stands.

        Raises:
            TrainingError: the checkpoint or the parent does not fit.
        """
        progress = self._continued(parts) or self._begun(parts)
        self._keeper = self._made_keeper()
        return progress

    def _continued(self, parts: Parts) -> TrainingProgress | None:
        folder = self._folder
        if folder is None:
            return None
        found = self._group.shared(lambda: checkpoint.fitting(folder, self._identity))
        if found is None:
            return None
        checkpoint.restore(folder, found, parts)
        self.lineage = found.lineage
        return found.progress

    def _begun(self, parts: Parts) -> TrainingProgress:
        if self._parent is None:
            return TrainingProgress(0, [])
        self.lineage = self._parent.lineage(self._settings.start.take)
        start = StartFromParent(self._settings, self._parent)
        return self._group.in_turn(lambda: start.into(parts, self._identity))

    def _made_keeper(self) -> Keeper:
        first = max(self._settings.first_full_epoch, inherited_epochs(self.lineage) + 1)
        return Keeper(self._settings.keep, self._folder, first)

    def best(self, rows: Rows) -> int | None:
        """The best epoch so far; None: none has been measured, or nothing says what best is."""
        return self._keeper.best(rows)

    def best_weights(self, rows: Rows) -> dict[str, Tensor]:
        """The state of the best epoch's network, in each process."""
        return self._group.shared(lambda: self._keeper.best_weights(rows))

    def keep(self, progress: TrainingProgress, parts: Parts, network: Mapping[str, Tensor]) -> None:
        """Keep an epoch that is done: the checkpoint, files that stay, and metrics.csv.

        Args:
            progress: with the epoch's metrics.
            parts: of the training, behind the epoch.
            network: state of the training's network.

        Raises:
            TrainingError: the folder cannot be written.
        """
        rows = progress.metrics
        self._keeper.remember(rows, network)
        if self._folder is None or not self._group.is_first:
            return
        state = checkpoint.state_of(parts, progress, self._identity, self.lineage)
        self._keeper.write(rows, parts, state)
        checkpoint.save(self._folder, parts, state)
        self._keeper.tidy(rows)
        _write_csv(self._folder / checkpoint.METRICS, rows)


def _write_csv(path: Path, rows: Rows) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())
