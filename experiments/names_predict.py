"""Where names are from, by a trained classifier; all that it takes is a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import names_config
from experiments.names_config import Config
from experiments.trained import find_checkpoint
from jaxlessons import checkpoint
from jaxlessons.data import name_files, names
from jaxlessons.data.vocabulary import Vocabulary, describe
from jaxlessons.errors import UserError
from jaxlessons.models.names import NameClassifier


class Trained(NamedTuple):
    """A network with its parameters, and what its tokens and classes stand for.

    longest: letters of the longest name that it was trained on.
    """

    model: NameClassifier
    variables: dict[str, Any]
    vocabulary: Vocabulary
    classes: tuple[str, ...]
    longest: int


def tell(config: Config, experiment: str) -> None:
    """Prints the likeliest labels of each name in --predict, and warns of what is unlike them."""
    asked = cleaned(config.predict)
    folder, step = find_checkpoint(
        config.checkpoint, config.runs_dir, experiment, config.name, best="accuracy", mode="max"
    )
    trained = load(folder, step)
    for warning in warnings(trained, asked):
        print(f"warning: {warning}", file=sys.stderr)
    for name, probabilities in zip(asked, predict(trained, asked), strict=True):
        likeliest = np.argsort(-probabilities, kind="stable")[: config.top]
        found = ", ".join(f"{trained.classes[k]} {probabilities[k]:.1%}" for k in likeliest)
        print(f"{name}: {found}")


def cleaned(asked: Sequence[str]) -> list[str]:
    """The names as files have them; UserError for one that is none."""
    clean = [name_files.clean(name) for name in asked]
    for name in clean:
        if clause := name_files.fault(name, "name"):
            raise UserError(f"--predict has {clause.rstrip(',')}: leave it out.")
    return clean


def load(folder: Path, step: int) -> Trained:
    """The network that a checkpoint tells of, with the parameters in it."""
    about = checkpoint.read_about(folder, step)
    classes, longest = about.get("classes"), about.get("longest")
    if "model" not in about or not isinstance(classes, list) or not isinstance(longest, int):
        raise UserError(f"{folder / str(step)} is no name classifier's: name another --checkpoint.")
    model = names_config.make_model(about["model"])
    vocabulary = Vocabulary.from_json(about.get("vocabulary"))
    sizes, own = (model.classes, model.vocabulary_size), (len(classes), len(vocabulary))
    if sizes != own:
        raise UserError(
            f"{folder / str(step)} names {own[0]} labels and {own[1]} letters where its network "
            f"has {sizes[0]} and {sizes[1]}: it was altered; name another --checkpoint."
        )
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    params = checkpoint.restore(folder, shapes["params"], step, part="params")
    return Trained(model, {"params": params}, vocabulary, tuple(classes), longest)


def predict(trained: Trained, asked: Sequence[str]) -> np.ndarray:
    """Probabilities `[names, classes]`."""
    tokens = names.encode(asked, trained.vocabulary)
    logits = jax.jit(trained.model.apply)(trained.variables, jnp.asarray(tokens))
    return np.asarray(jax.nn.softmax(logits))


def warnings(trained: Trained, asked: Sequence[str]) -> list[str]:
    """A sentence for each name that training has nothing like."""
    found = []
    for name in asked:
        known = set(trained.vocabulary.symbols)
        own = name.lower() if trained.vocabulary.lower else name
        strange = [letter for letter in dict.fromkeys(own) if letter not in known]
        if strange and set(own) <= set(strange):
            found.append(
                f"no letter of {name!r} was among the names trained on: the answer tells what is "
                "said of unknown letters, and nothing of this name."
            )
        elif strange:
            listed = ", ".join(map(describe, strange))
            found.append(
                f"{name!r} has {listed}, which no name trained on has: read as unknown letters."
            )
        if len(own) > trained.longest:
            found.append(
                f"{name!r} has {len(own)} letters, and no name trained on had more than "
                f"{trained.longest}: the answer may be poor."
            )
    return found
