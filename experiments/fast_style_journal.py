"""The journal of a run that trains a network to paint."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.fast_style_config import Config
from experiments.fast_style_setup import Photos, Setup, make_paint
from experiments.journal import Journal
from experiments.run_directory import RunDirectory
from jaxlessons import style_training
from jaxlessons.data import images
from jaxlessons.train_state import TrainState


class FastStyleJournal(Journal):
    """Has the losses on the photos kept back and paints one of them every epoch, and keeps the
    checkpoint with the lowest loss."""

    def __init__(
        self,
        experiment: str,
        run: RunDirectory,
        config: Config,
        photos: Photos,
        setup: Setup,
        about: dict[str, Any],
    ) -> None:
        super().__init__(
            experiment,
            run,
            photos.name,
            setup.phases,
            setup.per_epoch,
            config.steps,
            keep=config.keep,
            best="loss",
            mode="min",
            about=about,
        )
        self.config, self.photos, self.setup = config, photos, setup
        self._paint = make_paint(setup.network)

    def paint(self, state: TrainState, count: int) -> np.ndarray:
        """The first of the photos shown, painted, 0..1."""
        return np.asarray(self._paint(state.params, self.photos.shown[:count]))

    def validate(self, state: TrainState) -> dict[str, float]:
        size = self.config.batch_size
        setup = self.setup
        return style_training.evaluate(setup.eval_step, state.variables, setup.validation, size)[0]

    def details(self, state: TrainState) -> dict[str, Any]:
        """The picture of this epoch's network."""
        path = self.run.path / "pictures" / f"{int(state.step):06d}.png"
        images.write_png(path, self.paint(state, 1)[0], {})
        return {"picture": str(path.relative_to(self.run.path))}

    def line(self, record: dict[str, Any]) -> str:
        parts = [f"{record['data']} epoch {record['epoch']:g}"]
        for split in ("train", "validation"):
            if f"{split}_loss" in record:
                content, style = record[f"{split}_content"], record[f"{split}_style"]
                loss = record[f"{split}_loss"]
                parts.append(f"{split}: loss {loss:.4g}, content {content:.4g}, style {style:.4g}")
        return " | ".join([*parts, f"{record['seconds']:.0f} s"])
