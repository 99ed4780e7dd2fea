"""The end of a style transfer: the picture, the way to it, and result.json."""

from __future__ import annotations

import numpy as np

from experiments.style_config import Config, as_metadata
from experiments.style_journal import StyleJournal
from experiments.style_pictures import Pictures
from jaxlessons import plotting
from jaxlessons.data import images
from jaxlessons.files import expanded
from jaxlessons.stylize import Stylized

FRAME_SECONDS = 0.12


def finish(journal: StyleJournal, pictures: Pictures, made: Stylized, source: str) -> None:
    """picture.png, comparison.png, losses.png, way.gif and result.json; says where they are."""
    run, config = journal.run, journal.config
    images.write_png(run.path / "picture.png", made.picture, as_metadata(config))
    records = run.metrics()
    history = {name: np.array([record[name] for record in records]) for name in made.history}
    title = title_of(pictures, config)
    figures = {
        "losses.png": plotting.plot_losses(history, title),
        "comparison.png": plotting.plot_pictures(side_by_side(pictures, made.picture), title),
    }
    for name, figure in figures.items():
        plotting.save_figure(figure, run.path / name)
    images.write_gif(run.path / "way.gif", journal.frames(), FRAME_SECONDS)
    write_output(config, made.picture)
    seconds = run.train_seconds()
    result = {
        "experiment": journal.experiment,
        "data": pictures.name,
        "network": source,
        "size": list(made.picture.shape[:2]),
        **{name: float(values[history["taken"]][-1]) for name, values in parts(history).items()},
        "losses": losses_at(history),
        "evaluations": len(records),
        "refused": int(np.sum(~history["taken"])),
        "memory_megabytes": round(made.memory / 2**20, 1),
        "seconds": seconds,
        "seconds_to_first_step": journal.seconds_to_first_step,
    }
    run.write_result(result, config)
    print(
        f"{title}: loss {result['value']:.5g} after {len(records)} evaluations in {seconds:.0f} s, "
        f"{result['memory_megabytes']:.0f} MB. The picture is {run.path / 'picture.png'}, and the "
        f"way to it way.gif, losses.png and comparison.png beside it."
    )


def title_of(pictures: Pictures, config: Config) -> str:
    """What the picture shows: without a part of the loss, the other alone."""
    if not config.style_weight:
        return f"{pictures.content_source} by its {config.content_layer} alone"
    if not config.content_weight:
        return f"The manner of {pictures.style_source} alone"
    return f"{pictures.content_source} in the manner of {pictures.style_source}"


def write_output(config: Config, picture: np.ndarray) -> None:
    """The picture under the name that the user gave."""
    if config.output is not None:
        images.write_png(expanded(config.output), picture, as_metadata(config))


def parts(history: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The loss and its parts."""
    return {name: history[name] for name in ("value", "content", "style", "variation")}


def losses_at(history: dict[str, np.ndarray], every: int = 100) -> dict[str, float]:
    """The loss of the picture kept after 100, 200, ... evaluations, as the lesson prints it."""
    ends = range(every, len(history["value"]) + 1, every)
    kept = [np.flatnonzero(history["taken"][:end])[-1] for end in ends]
    return {str(end): float(history["value"][i]) for end, i in zip(ends, kept, strict=True)}


def side_by_side(pictures: Pictures, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Content, styles and result, by name."""
    several = len(pictures.styles) > 1
    styles = {f"style {i}" if several else "style": s for i, s in enumerate(pictures.styles, 1)}
    return {"content": pictures.content, **styles, "result": picture}
