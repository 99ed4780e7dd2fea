"""What a speedrun tells: a line a seed, then means, deviations and the device's share of peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import bias, markdown
from experiments.comparison_rows import mean_and_deviation
from experiments.run_directory import RunDirectory
from experiments.speedrun_config import Config, changed, published
from experiments.speedrun_optimizer import Plan
from jaxlessons import plotting, summary
from jaxlessons.data.image_set import ImageSet

VIEWS = 6  # of each image that is predicted
HEAD = "| recipe | parameters | accuracy | seeds | seconds | compiling | PFLOP | of peak | device |"


def count_flops(module: Any, plan: Plan, batch_size: int, predicted: int) -> int:
    """Multiplications and additions of one training and its predictions, on paper.

    Of convolutions and the head alone, the padding's zeros counted too. A trained layer takes
    three times its forward pass; the whitening one, and the first convolution two once nothing
    before it is trained.
    """
    layers = summary.layer_table(module, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    forward = {layer.name: layer.flops for layer in layers}
    whole, first = sum(forward.values()), forward["group1.conv1"]
    step = 3 * whole - 2 * forward["whiten"]
    steps = plan.total * step - (plan.total - plan.whitening) * first
    return batch_size * steps + VIEWS * predicted * whole


def record(seed: int, logits: np.ndarray, labels: Any, seconds: float) -> dict[str, Any]:
    """One seed's line of metrics.jsonl; a training that diverged counts with what it got right."""
    right = np.argmax(logits, axis=-1) == np.asarray(labels)
    found = {"seed": seed, "accuracy": float(np.mean(right)), "seconds": round(seconds, 4)}
    return found if np.isfinite(logits).all() else found | {"diverged": True}


def line(record: dict[str, Any]) -> str:
    """A record, to be read."""
    text = f"seed {record['seed']}: accuracy {record['accuracy']:.2%}, {record['seconds']:.3f} s"
    return text + (", diverged" if "diverged" in record else "")


def outlook(found: dict[str, Any], seeds: int, on_cpu: bool) -> str:
    """What is about to happen; on a CPU also how long it takes at the least."""
    text = f"Compiled in {found['compile_seconds']} s{_cached(found)}."
    if on_cpu:
        minutes = found["flops"] / found["peak_flops_per_second"] / 60
        text += (
            " There is no GPU: what was not asked for is small, 3 epochs of a narrow network. "
            f"Trainings: {seeds}, of {found['flops'] / 1e15:.3g} PFLOP each, which takes this CPU "
            f"at least {minutes:.1f} minutes."
        )
    return text


def _cached(found: dict[str, Any]) -> str:
    if not found["from_cache"]:
        return ""
    return f", {found['from_cache']} of its programs out of the cache of an earlier run"


def stopped(run: RunDirectory) -> str:
    """Where the finished seeds are, of a run that is ended before all are."""
    path = run.path / "metrics.jsonl"
    if not path.exists():
        return "Stopped before the first seed was done."
    return f"Stopped: the seeds so far are in {path}."


def finish(
    run: RunDirectory,
    config: Config,
    images: ImageSet,
    plan: Plan,
    found: dict[str, Any],
    logits: Sequence[np.ndarray],
    labels: np.ndarray,
) -> None:
    """Tells what all seeds come to, and writes result.json and the figures.

    logits: every seed's `[examples, classes]`, of which the labels are `[examples]`.
    """
    trials, data = run.metrics(), images.name
    accuracies = [100 * trial["accuracy"] for trial in trials]
    accuracy = mean_and_deviation(accuracies)
    seconds = mean_and_deviation([trial["seconds"] for trial in trials])
    known = published(config)
    result = {
        "experiment": "cifar_speedrun",
        "data": data,
        **found,
        "steps": plan.total,
        "n": len(trials),
        "accuracy": accuracy,
        "seconds": seconds,
        "share_of_peak": found["flops"] / seconds[0] / found["peak_flops_per_second"],
        "published_accuracy": known and known[0],
        "published_n": known and known[1],
        "trainings": trials,
    }
    what = f"{data}: {config.target}, {config.optimizer}"
    title = f"{what}: {markdown.mean(accuracies, 2)} %"
    figure = plotting.plot_accuracies(accuracies, title, known and known[0])
    plotting.save_figure(figure, run.path / "accuracies.png")
    shares = judge(run, logits, labels, images.classes, title)
    run.write_result(result | shares, config)
    print("\n".join(lines(result)))
    if shares:
        print(bias.table(shares))
    print(f"Everything is in {run.path}.")


def judge(
    run: RunDirectory,
    logits: Sequence[np.ndarray],
    labels: np.ndarray,
    classes: Sequence[str],
    title: str,
) -> dict[str, Any]:
    """`bias.measure` of all seeds' predictions together, and their reliability.png.

    Together, since what a single network prefers is mostly its chance. A training that diverged
    predicts nothing; {} where all did.
    """
    learned = [array for array in logits if np.isfinite(array).all()]
    if not learned:
        return {}
    probabilities = np.asarray(jax.nn.softmax(np.concatenate(learned)))
    repeated = np.tile(labels, len(learned))
    figure = bias.draw(probabilities, repeated, title)
    plotting.save_figure(figure, run.path / "reliability.png")
    return bias.measure(probabilities, repeated, classes)


def lines(result: dict[str, Any]) -> list[str]:
    """The result, to be read."""
    accuracy, seconds = result["accuracy"], result["seconds"]

    def spread(deviation: float, digits: int) -> str:
        # Of one training it is not known.
        return f", standard deviation {deviation:.{digits}f}" if result["n"] > 1 else ""

    told = [
        f"{result['data']}, {result['told']}: {accuracy[0]:.2f} % mean accuracy"
        f"{spread(accuracy[1], 2)}, n = {result['n']}, {result['parameters']:,} parameters.",
        f"{seconds[0]:.3f} s a training{spread(seconds[1], 3)}; compiled once in "
        f"{result['compile_seconds']} s beside it{_cached(result)}.",
        f"{result['flops'] / 1e15:.3g} PFLOP (XLA counts {result['flops_xla'] / 1e15:.3g}), "
        f"{result['share_of_peak']:.0%} of the device's peak of "
        f"{result['peak_flops_per_second'] / 1e12:.3g} TFLOP/s in products of matrices.",
    ]
    if result["published_accuracy"] and result["data"] == "CIFAR-10":
        more = accuracy[0] - result["published_accuracy"]
        told.append(
            f"As published the recipe has {result['published_accuracy']} %, n = "
            f"{result['published_n']}: here it is {abs(more):.2f} points "
            f"{'above' if more > 0 else 'below'} that."
        )
    return told


def table(results: Sequence[dict[str, Any]]) -> str:
    """A row a recorded speedrun."""
    rows = []
    for result in results:
        config, trials = result["config"], result["trainings"]
        cells = (
            ", ".join([config["target"], config["optimizer"], *changed(config)])
            + ("" if result["told"] == "test" else f" ({result['told']})"),
            f"{result['parameters']:,}",
            markdown.mean([100 * trial["accuracy"] for trial in trials], 2) + " %",
            f"{len(trials)}",
            markdown.mean([trial["seconds"] for trial in trials], 2),
            "cached" if result["from_cache"] else f"{result['compile_seconds']:.0f} s",
            f"{result['flops'] / 1e15:.2f}",
            f"{result['share_of_peak']:.0%}",
            result["device"],
        )
        rows.append(cells)
    return markdown.table(HEAD, rows)
