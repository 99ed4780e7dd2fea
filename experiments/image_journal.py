"""The journal of a run that trains a classifier of images."""

from __future__ import annotations

from experiments.cifar_setup import Setup
from experiments.journal import Journal
from experiments.run_directory import RunDirectory
from experiments.splits import Splits
from jaxlessons import training
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.training import TrainState


class ImageJournal(Journal):
    """Validates on the images kept back, and keeps the checkpoint with the highest accuracy."""

    def __init__(
        self,
        experiment: str,
        run: RunDirectory,
        images: ImageSet,
        splits: Splits,
        setup: Setup,
        keep: int,
    ) -> None:
        super().__init__(
            experiment,
            run,
            images.name,
            setup.phases,
            setup.per_epoch,
            setup.total_steps,
            keep=keep,
            best="accuracy" if splits.validation is not None else None,
        )
        self.images, self.splits, self.eval_step = images, splits, setup.eval_step

    def validate(self, state: TrainState) -> dict[str, float] | None:
        if self.splits.validation is None:
            return None
        return training.evaluate(self.eval_step, state.variables, self.splits.validation)[0]
