"""The end of a character model's run: figures, samples, and result.json."""

from __future__ import annotations

import re
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import char_journal
from experiments.char_journal import CharJournal
from jaxlessons import checkpoint, devices, metrics, plotting
from jaxlessons.training import TrainState

LAST_SAMPLE = 2000  # characters, of which the share of words is taken
SHOWN_TEXT, SHOWN_UNITS = 480, 6  # in reactions.png


def finish(journal: CharJournal, state: TrainState) -> None:
    """The best network (or the last, with nothing to validate on) writes, and shows its units."""
    run, corpus, config = journal.run, journal.corpus, journal.config
    records = run.metrics()
    step = checkpoint.best_step(run.checkpoints, "loss", "min") or int(state.step)
    best_state = checkpoint.restore(run.checkpoints, state, step)
    if not devices.is_main():
        return
    variables = journal.setup.layout.gather(best_state.variables)
    prompt, written = char_journal.write(journal.setup, corpus, variables, config, LAST_SAMPLE)
    best = min((r["validation_loss"] for r in records if "validation_loss" in r), default=None)
    title = f"{config.layers} x {config.features} {config.cell} on {corpus.name}"

    for name, figure in draw(journal, records, variables, title).items():
        plotting.save_figure(figure, run.path / name)
    run.write_text("samples.txt", samples(records, prompt + written, step))
    found = {
        "data_source": corpus.source,
        "symbols": len(corpus.vocabulary),
        "train_characters": len(corpus.train),
        "validation_characters": len(corpus.validation),
        "best_validation_loss": best,
        "best_epoch": step / journal.per_epoch,
        "perplexity": None if best is None else metrics.perplexity(best),
        "bits_per_character": None if best is None else metrics.bits_per_character(best),
        "sample": written,
        "sample_words_in_text": words_known(written, corpus.train_text + corpus.validation_text),
    }
    result = journal.write_result(state, found, config)
    print(f"\n{prompt}{written[:800]}\n")
    if best is not None:
        print(
            f"{title}: {best:.4f} nats a character ({result['bits_per_character']:.3f} bits, "
            f"perplexity {result['perplexity']:.3f}) on {len(corpus.validation):,} characters, at "
            f"epoch {result['best_epoch']:g} of {result['epochs']:g}."
        )
    print(f"{result['sample_words_in_text']:.0%} of the words it writes are words of the text.")
    print(f"Everything is in {run.path}; more text: python -m experiments.char_rnn --sample TEXT")


def draw(
    journal: CharJournal, records: list[dict[str, Any]], variables: Any, title: str
) -> dict[str, Any]:
    """The figures by the names of their files."""
    corpus = journal.corpus
    shown = (corpus.validation_text or corpus.train_text)[:SHOWN_TEXT]
    tokens = jnp.asarray(corpus.vocabulary.encode(shown))[None]
    _, seen = journal.setup.model.apply(variables, tokens, mutable=["intermediates"])
    outputs = np.asarray(seen["intermediates"]["outputs"][0][0], np.float32)
    units = telling_units(outputs, SHOWN_UNITS)
    return {
        "curves.png": plotting.plot_curves(records, journal.rates, journal.per_epoch, title),
        "reactions.png": plotting.plot_reactions(shown, outputs[:, units], units, title),
    }


def telling_units(outputs: np.ndarray, count: int) -> list[int]:
    """Of outputs `[time, units]`, the units that move most and least hastily.

    By the deviation over time times the correlation with the step before: what holds a value over
    many characters says more than what follows each one.
    """
    deviation = outputs.std(axis=0)
    centred = outputs - outputs.mean(axis=0)
    following = (centred[1:] * centred[:-1]).mean(axis=0) / np.maximum(deviation**2, 1e-12)
    order = np.argsort(-deviation * following, kind="stable")
    return [int(unit) for unit in order[:count]]


def words_known(written: str, text: str) -> float:
    """The share of the words in `written` (runs of letters) that `text` has as well."""
    pattern = re.compile(r"[^\W\d_]+")
    words, known = pattern.findall(written.lower()), set(pattern.findall(text.lower()))
    # The first and the last may be cut.
    words = words[1:-1] or words
    return sum(word in known for word in words) / max(1, len(words))


def samples(records: list[dict[str, Any]], last: str, step: int) -> str:
    """samples.txt: what the network wrote after each epoch, and the best one at the end."""
    parts = [
        f"== epoch {record['epoch']:g}\n{record['prompt']}{record['sample']}\n"
        for record in records
        if "sample" in record
    ]
    return "\n".join([*parts, f"== the end, the checkpoint of step {step}\n{last}\n"])
