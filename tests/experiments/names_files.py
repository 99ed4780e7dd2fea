"""Files of made-up names, and the network that a run on them left."""

from experiments import names_predict
from experiments.trained import find_checkpoint
from jaxlessons.data import made_up_names

LANGUAGES = ("Borgish", "Cendri", "Fjonn")
SMALL = (
    "--features 12 --embedding-size 8 --layers 1 --batch-size 32 --epochs 8 --lr 0.02 "
    "--schedule constant --dropout 0 --unknown 0.05 --buckets 2"
)


def write(path, count, seed, more=()):
    """Made-up names of three languages, and some more rows."""
    rows = zip(*made_up_names.make(count, seed), strict=True)
    rows = [row for row in rows if row[1] in LANGUAGES] + list(more)
    path.write_text("".join(f"{name},{label}\n" for name, label in rows), encoding="utf-8")
    return path


def network(trained):
    folder, step = find_checkpoint(
        trained.run, trained.folder, "names", None, best="accuracy", mode="max"
    )
    return names_predict.load(folder, step)
