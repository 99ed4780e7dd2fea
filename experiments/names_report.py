"""The end of a name classifier's run: the test names, looked at once, figures and result.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments import bias
from experiments.names_journal import NamesJournal
from experiments.names_setup import Data
from jaxlessons import checkpoint, devices, metrics, plotting, training
from jaxlessons.data.names import PADDING
from jaxlessons.training import TrainState


def finish(journal: NamesJournal, state: TrainState) -> None:
    """Tests the best network by validation accuracy (the last one, with nothing to validate on)."""
    run, config, data = journal.run, journal.config, journal.names
    step = checkpoint.best_step(run.checkpoints, "accuracy") or int(state.step)
    best = checkpoint.restore(run.checkpoints, state, step)
    test, logits = training.evaluate(journal.setup.eval_step, best.variables, data.splits.test)
    if not devices.is_main():
        return
    probabilities = np.asarray(jax.nn.softmax(logits))
    records, labels = run.metrics(), data.name_set.test_labels
    shares = bias.measure(probabilities, labels, data.name_set.classes)
    chosen = next((r for r in records if r["step"] == step), {})
    found: dict[str, Any] = {
        "data_source": data.name_set.source,
        "train_names": len(data.lengths),
        "test_names": len(labels),
        "test_accuracy": test["accuracy"],
        "test_loss": test["loss"],
        "best_epoch": step / journal.per_epoch,
        "validation_accuracy": chosen.get("validation_accuracy"),
        "in_both_files": in_both_files(data, probabilities),
        "test_names_with_unknown_letters": unknown_letters(data),
        "test_names_longer_than_trained_on": longer(data),
        **shares,
    }
    title = f"{config.layers} x {config.features} {config.cell} on {data.name_set.name}"
    figures = draw(journal, records, probabilities, f"{title}, accuracy {test['accuracy']:.1%}")
    for name, figure in figures.items():
        plotting.save_figure(figure, run.path / name)
    # Last: a run with a result is finished, and one that is stopped before draws once more.
    result = journal.write_result(state, found, config)
    tell(title, run.path, result, int(data.lengths.max()))


def in_both_files(data: Data, probabilities: np.ndarray) -> dict[str, Any]:
    """How many test names stand among those to train or to validate on, as the network reads them.

    "same_label": those that have a label there that they have in the test too. The accuracies are
    of them and of the others, None where there are none.
    """
    names = data.name_set

    def read(of: Sequence[str]) -> list[str]:
        return [name.lower() for name in of] if data.vocabulary.lower else list(of)

    train, test = read(names.train_names), read(names.test_names)
    known, labelled = set(train), set(zip(train, names.train_labels.tolist(), strict=True))
    both = np.array([name in known for name in test])
    same = sum(row in labelled for row in zip(test, names.test_labels.tolist(), strict=True))
    predicted = np.argmax(probabilities, axis=1)
    accuracies = metrics.accuracy_by_group(predicted, names.test_labels, both, 2)
    others, own = (None if np.isnan(value) else float(value) for value in accuracies)
    return {
        "names": int(both.sum()),
        "same_label": same,
        "accuracy": own,
        "accuracy_of_others": others,
    }


def unknown_letters(data: Data) -> int:
    """Test names with a letter that the network was not trained on."""
    return int(np.any(np.asarray(data.splits.test.inputs) == 0, axis=1).sum())


def longer(data: Data) -> int:
    """Test names with more letters than any that the network was trained on."""
    lengths = np.sum(np.asarray(data.splits.test.inputs) != PADDING, axis=1)
    return int(np.sum(lengths > data.lengths.max()))


def draw(
    journal: NamesJournal, records: list[dict[str, Any]], probabilities: np.ndarray, title: str
) -> dict[str, Any]:
    """The figures by the names of their files."""
    labels, classes = journal.names.name_set.test_labels, journal.names.name_set.classes
    predicted = np.argmax(probabilities, axis=1)
    matrix = metrics.confusion_matrix(predicted, labels, len(classes))
    return {
        "curves.png": plotting.plot_curves(records, journal.rates, journal.per_epoch, title),
        "confusion.png": plotting.plot_confusion(matrix, classes, title),
        "reliability.png": bias.draw(probabilities, labels, title),
    }


def tell(title: str, place: Any, result: dict[str, Any], longest: int) -> None:
    """The figures, to be read; longest: letters of the longest name trained on."""
    print(bias.table(result))
    print(
        f"{title}: test accuracy {result['test_accuracy']:.2%}, loss {result['test_loss']:.4f}, "
        f"over {result['test_names']:,} names, by the network of epoch {result['best_epoch']:g} of "
        f"{result['epochs']:g}."
    )
    print(shared(result["in_both_files"]))
    if result["test_names_with_unknown_letters"]:
        print(f"{result['test_names_with_unknown_letters']:,} have letters that training lacks.")
    if count := result["test_names_longer_than_trained_on"]:
        print(
            f"{count:,} are longer than any name trained on, which had {longest} letters at most."
        )
    print(f"Everything is in {place}; ask it: python -m experiments.names --predict NAME ...")


def shared(both: dict[str, Any]) -> str:
    """`in_both_files`, to be read."""
    sentence = f"{both['names']:,} of them stand among the names to train on too"
    if both["names"]:
        sentence += f", {both['same_label']:,} with the same label"
    parts = [
        f"{both[part]:.2%} of {which}"
        for part, which in (("accuracy", "those"), ("accuracy_of_others", "the others"))
        if both["names"] and both[part] is not None
    ]
    return sentence + (f": right are {', and '.join(parts)}." if parts else ".")
