"""The journal of a run that trains a character model."""

from __future__ import annotations

from typing import Any

import jax

from experiments.char_config import Config
from experiments.char_setup import Corpus, Setup
from experiments.journal import Journal
from experiments.run_directory import RunDirectory
from jaxlessons import devices, generate, metrics
from jaxlessons.training import TrainState

PROMPT = 32  # characters of the text that the samples go on from
SAMPLE = 200  # characters of the samples through training


class CharJournal(Journal):
    """Validates with the state carried over the whole split, writes a sample an epoch, and keeps
    the checkpoint with the lowest validation loss."""

    def __init__(
        self, experiment: str, run: RunDirectory, config: Config, corpus: Corpus, setup: Setup
    ) -> None:
        super().__init__(
            experiment,
            run,
            corpus.name,
            setup.phases,
            setup.per_epoch,
            setup.total_steps,
            keep=config.keep,
            best="loss" if corpus.validation_text else None,
            mode="min",
            about=setup.about,
        )
        self.corpus, self.setup, self.config = corpus, setup, config

    def validate(self, state: TrainState) -> dict[str, float] | None:
        return self.setup.evaluate(state.variables)

    def details(self, state: TrainState) -> dict[str, Any]:
        """The sample that this epoch's network writes, in the process that tells of it."""
        if not devices.is_main():
            return {}
        variables = self.setup.layout.gather(state.variables)
        prompt, written = write(self.setup, self.corpus, variables, self.config, SAMPLE)
        return {"prompt": prompt, "sample": written}

    def line(self, record: dict[str, Any]) -> str:
        parts = [f"{record['data']} epoch {record['epoch']:g}"]
        for split in ("train", "validation"):
            if (nats := record.get(f"{split}_loss")) is not None:
                bits = metrics.bits_per_character(nats)
                parts.append(f"{split}: {nats:.4f} nats ({bits:.3f} bits) a character")
        if "validation_loss" in record:
            parts.append(f"perplexity {metrics.perplexity(record['validation_loss']):.3f}")
        text = (record["prompt"] + record["sample"]).replace("\n", "\n    ")
        return " | ".join([*parts, f"{record['seconds']:.0f} s"]) + f"\n    {text}"


def write(
    setup: Setup, corpus: Corpus, variables: Any, config: Config, length: int
) -> tuple[str, str]:
    """(prompt, what the network goes on with): the prompt is how the text to validate on begins."""
    prompt = (corpus.validation_text or corpus.train_text)[:PROMPT]
    chunks = generate.stream(
        setup.model.apply,
        variables,
        corpus.vocabulary.encode(prompt),
        length,
        jax.random.key(config.seed),
        chunk=SAMPLE,
        temperature=config.temperature,
    )
    return prompt, "".join(corpus.vocabulary.decode(chunk[0]) for chunk in chunks)
