"""The end of a cats-and-dogs run: valid/ looked at once, the heat maps, the zoom, result.json."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import saved_config
from experiments.cats_dogs_config import Config
from experiments.cats_dogs_setup import BATCH, Network
from experiments.run_directory import RunDirectory
from jaxlessons import cam, checkpoint, metrics, plotting
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.errors import UserError
from jaxlessons.training import TrainState

SOURCE_FILE = "weights.json"
SHOWN = 8  # photos a row in heatmaps.png and zoom.png


class Seen(NamedTuple):
    """What the network makes of n photos. maps: one a class, `[n, h, w, classes]`."""

    probabilities: np.ndarray
    maps: np.ndarray

    @property
    def guesses(self) -> np.ndarray:
        return np.argmax(self.probabilities, axis=1)


def check_source(run: RunDirectory, source: str) -> None:
    """Raises UserError when the run was begun with other weights than those of `source`.

    Without the file the run was killed as it began, and these are its weights from now on.
    """
    path = run.path / SOURCE_FILE
    if not path.exists() and not checkpoint.all_steps(run.checkpoints):
        run.write_json(SOURCE_FILE, {"source": source})
    saved = saved_config.read_object(path, "the weights' source", "start a new run")
    if (begun_with := saved.get("source")) != source:
        raise UserError(
            f"{run.path} was begun with {begun_with} as VGG16's weights, and what was found now is "
            f"{source}: name the former by --weights, or start a new run."
        )


def finish(
    config: Config,
    run: RunDirectory,
    images: ImageSet,
    network: Network,
    state: TrainState,
    source: str,
    started: float,
) -> None:
    """Classifies valid/, plain and zoomed, draws both, and writes result.json."""
    photos, labels = images.test_images, images.test_labels
    params = network.whole_params(state.params)
    look = make_look(network, params)
    seen = look(photos)
    boxes, crops = zoom_in(photos, seen, config.zoom)
    again = look(crops)
    plain, zoomed = _scores(seen, labels), _scores(again, labels)
    records = run.metrics()
    found = {
        "experiment": "cats_dogs",
        "data": images.name,
        "data_source": images.source,
        "weights_source": source,
        "classes": images.classes,
        "test_examples": len(labels),
        **plain,
        "zoomed": {"share": config.zoom, **zoomed},
        "validation_accuracy": records[-1].get("validation_accuracy") if records else None,
        "parameters": optax.tree.size(params),
        "steps": int(state.step),
        "train_seconds": run.train_seconds(),
        "run_seconds": round(time.perf_counter() - started, 1),
    }
    title = f"VGG16 on {images.name}, accuracy {plain['test_accuracy']:.1%} on valid/"
    draw(config, run, images, network, params, seen, boxes, crops, again, title)
    run.write_result(found, config)
    print(
        f"{title}, log loss {plain['test_loss']:.4f}, over {len(labels):,} photos; zoomed into the "
        f"hottest region {zoomed['test_accuracy']:.1%}, log loss {zoomed['test_loss']:.4f}. "
        f"Everything is in {run.path}."
    )


def make_look(network: Network, params: Any) -> Callable[[np.ndarray], Seen]:
    """Photos `[n, size, size, 3]` -> `Seen`, some photos at a time."""

    @jax.jit
    def one(params: Any, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, features = network.whole.apply(
            {"params": params}, network.prepare(batch), return_features=True
        )
        return jax.nn.softmax(logits), features["class_maps"]

    def look(photos: np.ndarray) -> Seen:
        parts = []
        for start in range(0, len(photos), BATCH):
            # The last batch is moved back to be as large as the others, and cut afterwards.
            place = max(0, min(start, len(photos) - BATCH))
            found = one(params, jnp.asarray(photos[place : place + BATCH]))
            parts.append([np.asarray(array)[start - place :] for array in found])
        return Seen(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    return look


def zoom_in(photos: np.ndarray, seen: Seen, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(boxes `[n, 4]`, their contents at the photos' size) where the guessed class is hottest."""
    maps = cam.class_activation_map(jnp.asarray(seen.maps), jnp.asarray(seen.guesses))
    boxes = cam.hottest_box(cam.upsample(maps, photos.shape[1:3]), share)
    crops = np.asarray(jax.jit(cam.zoom)(jnp.asarray(photos), boxes))
    return np.asarray(boxes), np.clip(np.round(crops), 0, 255).astype(np.uint8)


def _scores(seen: Seen, labels: np.ndarray) -> dict[str, float]:
    return {
        "test_accuracy": metrics.accuracy(seen.probabilities, labels),
        "test_loss": metrics.log_loss(seen.probabilities, labels),
    }


def draw(
    config: Config,
    run: RunDirectory,
    images: ImageSet,
    network: Network,
    params: Any,
    seen: Seen,
    boxes: np.ndarray,
    crops: np.ndarray,
    again: Seen,
    title: str,
) -> None:
    """heatmaps.png and zoom.png."""
    photos, labels = images.test_images, images.test_labels
    own = seen.probabilities[np.arange(len(labels)), labels]
    sections = hits_and_misses(seen.guesses == labels, own, labels)
    chosen = np.concatenate(list(sections.values()))
    inputs, guesses = jnp.asarray(photos[chosen]), jnp.asarray(seen.guesses[chosen])
    plain = cam.class_activation_map(jnp.asarray(seen.maps[chosen]), guesses)
    layer = f"trunk/{config.last}"
    gradient = jax.jit(
        lambda p, x, c: cam.grad_cam(network.whole, {"params": p}, network.prepare(x), layer, c)
    )(params, inputs, guesses)
    size = photos.shape[1:3]
    places = np.split(np.arange(len(chosen)), np.cumsum([len(x) for x in sections.values()])[:-1])
    maps = {"class map": plain, "Grad-CAM": gradient}
    figure = plotting.plot_heatmaps(
        photos[chosen],
        {name: np.asarray(cam.upsample(found, size)) for name, found in maps.items()},
        labels[chosen],
        seen.probabilities[chosen],
        images.classes,
        dict(zip(sections, places, strict=True)),
        title,
    )
    plotting.save_figure(figure, run.path / "heatmaps.png")

    gain = again.probabilities[np.arange(len(labels)), labels] - own
    order = np.argsort(gain)
    figure = plotting.plot_zoom(
        photos,
        boxes,
        crops,
        seen.probabilities,
        again.probabilities,
        labels,
        images.classes,
        {"where the zoom helped most": order[::-1][:SHOWN], "and harmed most": order[:SHOWN]},
        f"The hottest region, {config.zoom:g} of each side, classified again",
    )
    plotting.save_figure(figure, run.path / "zoom.png")


def hits_and_misses(hit: np.ndarray, own: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The surest hits of all classes in turn, and the worst misses; else the least sure.

    hit: `[n]` whether the guess is right; own: `[n]` the probability of the true class.
    """
    order = np.argsort(-own, kind="stable")
    rank = np.empty(len(own), int)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        rank[mine] = np.arange(len(mine))
    surest = np.lexsort((labels, rank))
    worst = order[::-1][:SHOWN]
    misses = "the worst misses" if not hit[worst].any() else "the misses, and the least sure hits"
    return {"the surest hits": surest[hit[surest]][:SHOWN], misses: worst}
