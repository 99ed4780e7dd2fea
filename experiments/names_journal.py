"""The journal of a run that trains a name classifier."""

from __future__ import annotations

from experiments.journal import Journal
from experiments.names_config import Config
from experiments.names_setup import Data, Setup
from experiments.run_directory import RunDirectory
from jaxlessons import training
from jaxlessons.training import TrainState


class NamesJournal(Journal):
    """Validates on the names kept back, and keeps the checkpoint with the highest accuracy."""

    def __init__(
        self, experiment: str, run: RunDirectory, config: Config, data: Data, setup: Setup
    ) -> None:
        super().__init__(
            experiment,
            run,
            data.name_set.name,
            setup.phases,
            setup.per_epoch,
            setup.total_steps,
            keep=config.keep,
            best="accuracy" if data.splits.validation is not None else None,
            about=setup.about,
        )
        self.config, self.names, self.setup = config, data, setup

    def validate(self, state: TrainState) -> dict[str, float] | None:
        if self.names.splits.validation is None:
            return None
        return training.evaluate(
            self.setup.eval_step, state.variables, self.names.splits.validation
        )[0]
