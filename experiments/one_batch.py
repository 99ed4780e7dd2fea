"""Training steps on always the same batch, for what measures them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxlessons import training
from jaxlessons.devices import Layout
from jaxlessons.training import Examples, Place, TrainStep


def repeated(
    train_step: TrainStep, images: np.ndarray, labels: np.ndarray, layout: Layout
) -> Callable[[Any], tuple[Any, Any]]:
    """state -> (state, sums), with the batch brought to the devices as `training.fit` brings it."""
    split: Any = Examples(images, labels.astype(np.int32))  # type: ignore[arg-type]
    places: Any = Place(np.arange(len(labels))[None], np.zeros(1, np.int32))  # type: ignore[arg-type]
    if layout.mesh is None:
        split = layout.replicate(split)
    step, data, share = training.brought(train_step, split, layout)
    return lambda state: step(state, data, jax.tree.map(lambda array: array[0], share(places)))
