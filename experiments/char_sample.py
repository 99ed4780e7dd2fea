"""Text from a trained character model; all that it takes is a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import char_config
from experiments.char_config import Config
from experiments.trained import find_checkpoint
from jaxlessons import beam_search, checkpoint, generate
from jaxlessons.data.vocabulary import Vocabulary, describe
from jaxlessons.errors import UserError
from jaxlessons.models.char import StatefulCharRNN


class Trained(NamedTuple):
    """A network with its parameters, and what its tokens stand for."""

    model: StatefulCharRNN
    variables: dict[str, Any]
    vocabulary: Vocabulary


def write(config: Config, experiment: str) -> None:
    """Prints what the network goes on with after --sample, each character as it comes."""
    folder, step = find_checkpoint(
        config.checkpoint, config.runs_dir, experiment, config.name, best="loss"
    )
    trained = load(folder, step)
    prompt = encode(trained.vocabulary, str(config.sample))
    if config.beams:
        texts, scores = beam_search.beam_search(
            trained.model.apply, trained.variables, prompt, config.length, config.beams
        )
        for tokens, score in zip(texts, scores, strict=True):
            if not np.isfinite(score):  # there are fewer texts than beams
                break
            written = trained.vocabulary.decode(np.asarray(tokens))
            print(f"{config.sample}{written}\n[log probability {float(score):.2f} nats]\n")
        return
    chunks = generate.stream(
        trained.model.apply,
        trained.variables,
        prompt,
        config.length,
        jax.random.key(config.seed),
        samples=config.samples,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        greedy=config.greedy,
    )
    if config.samples == 1:
        print(config.sample, end="", flush=True)
        for chunk in chunks:
            print(trained.vocabulary.decode(chunk[0]), end="", flush=True)
        print()
        return
    for number, tokens in enumerate(np.concatenate(list(chunks), axis=1), 1):
        print(f"[{number}]\n{config.sample}{trained.vocabulary.decode(tokens)}\n")


def load(folder: Path, step: int) -> Trained:
    """The network that a checkpoint tells of, with the parameters in it."""
    about = checkpoint.read_about(folder, step)
    if "model" not in about:
        raise UserError(f"{folder / str(step)} is no character model's: name another --checkpoint.")
    model = char_config.make_model(about["model"])
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    params = checkpoint.restore(folder, shapes["params"], step, part="params")
    return Trained(model, {"params": params}, Vocabulary.from_json(about.get("vocabulary")))


def encode(vocabulary: Vocabulary, prompt: str) -> np.ndarray:
    """The prompt's tokens; UserError for a character that the network was not trained on."""
    if not prompt:
        raise UserError("--sample is empty: name at least one character to go on from.")
    if missing := vocabulary.missing(prompt):
        raise UserError(
            f"--sample {prompt!r} has {describe(missing)}, which is not among the "
            f"{len(vocabulary)} symbols that the network was trained on: leave it out."
        )
    return vocabulary.encode(prompt)
