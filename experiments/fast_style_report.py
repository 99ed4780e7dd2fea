"""The end of a fast style transfer's run: figures and result.json."""

from __future__ import annotations

import time

import numpy as np

from experiments.fast_style_journal import FastStyleJournal
from experiments.fast_style_setup import Photos
from jaxlessons import plotting
from jaxlessons.train_state import TrainState


def finish(journal: FastStyleJournal, state: TrainState, style: np.ndarray) -> None:
    """curves.png, comparison.png and result.json; says where they are, and how to paint."""
    run, photos, about = journal.run, journal.photos, journal.saving["about"]
    painted = journal.paint(state, len(photos.shown))
    title = f"In the manner of {about['style']['source']}, after {int(state.step):,} steps"
    records = run.metrics()
    figures = {
        "curves.png": plotting.plot_loss_parts(records, title),
        "comparison.png": plotting.plot_pictures(side_by_side(photos, painted, style), title),
    }
    for name, figure in figures.items():
        plotting.save_figure(figure, run.path / name)
    last = {k: v for k, v in records[-1].items() if k.startswith("validation_")}
    height, width = photos.shown.shape[1:3]
    found = {
        "data_source": photos.source,
        "style": about["style"]["source"],
        "weights": about["weights"],
        **last,
        "painted_size": [height, width],
        "painted_seconds": round(seconds_a_picture(journal, state), 4),
    }
    journal.write_result(state, found, journal.config)
    print(
        f"{title}: loss {last['validation_loss']:.4g} on {journal.config.validation} photos kept "
        f"back, {found['painted_seconds']:.2g} s a picture of {width} x {height}. Everything is in "
        f"{run.path}; to paint: python -m experiments.{journal.experiment} --paint PHOTO"
    )


def seconds_a_picture(journal: FastStyleJournal, state: TrainState) -> float:
    """What one picture takes, nothing compiled: the median of five."""
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        journal.paint(state, 1)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[1:]))


def side_by_side(photos: Photos, painted: np.ndarray, style: np.ndarray) -> dict[str, np.ndarray]:
    """The style, and each photo above its painting, by name."""
    pairs = [
        np.concatenate([photo / np.float32(255), picture])
        for photo, picture in zip(photos.shown, painted, strict=True)
    ]
    return {"style": style / np.float32(255), **dict(zip(photos.titles, pairs, strict=True))}
