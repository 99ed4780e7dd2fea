"""What the forms of convolutions cost, by hand, and what the experiment leaves."""

import json
import re
import sys

import jax
import jax.numpy as jnp
import pytest

from experiments import inception_cost, results_table
from experiments.inception_cost import FORMS, cost
from jaxlessons.errors import UserError

# form -> parameters and products an image place, of the form and of what it replaces.
BY_HAND = {
    "1x1 to 16, then 5x5": (192 * 16 + 16 + 16 * 32 * 25 + 32, 192 * 32 * 25 + 32),
    "3x3 and 3x3": (2 * (9 * 96 * 96 + 96), 25 * 96 * 96 + 96),
    "3x1 after 1x3": (2 * (3 * 96 * 96 + 96), 9 * 96 * 96 + 96),
    "7x1 after 1x7": (2 * (7 * 128 * 128 + 128), 49 * 128 * 128 + 128),
    "bottleneck block": (
        256 * 64 + 64 + 9 * 64 * 64 + 64 + 64 * 256 + 256,
        2 * (9 * 256 * 256 + 256),
    ),
    "GoogLeNet's module 3a": (163_328 + 64 + 96 + 128 + 16 + 32 + 32, 192 * 256 * 25 + 256),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_parameters_and_flops_are_those_by_hand(name):
    form = FORMS[name]
    found = [cost(module, form.shape) for module in (form.made, form.plain)]
    assert tuple(parameters for parameters, _ in found) == BY_HAND[name]
    places = form.shape[0] * form.shape[1]
    for (parameters, flops), module in zip(found, (form.made, form.plain), strict=True):
        biases = parameters - flops / (2 * places)
        assert 0 < biases < 1000, module  # all the rest are kernels, applied everywhere


def test_both_of_a_form_have_the_same_output():
    for name, form in FORMS.items():
        shapes = {
            jax.eval_shape(module.init_with_output, jax.random.key(0), jnp.zeros((2, *form.shape)))[
                0
            ].shape
            for module in (form.made, form.plain)
        }
        assert len(shapes) == 1, name


@pytest.mark.slow
def test_a_run_leaves_the_table_the_plot_and_its_record(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["inception_cost", "--forms", "tutorial's module", "--batch-size", "2", "--rounds", "3"]
    monkeypatch.setattr(sys, "argv", [*words, "--pause", "0"])
    inception_cost.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == inception_cost.HEAD
    assert printed[2].startswith("| tutorial's module | 5x5, 88 channels | 12 x 12 x 20 | 19,824 |")
    (folder,) = (tmp_path / "runs" / "inception_cost").iterdir()
    assert (folder / "shares.png").read_bytes().startswith(b"\x89PNG")
    (row,) = json.loads((folder / "result.json").read_text())["rows"]
    made, plain = row["milliseconds"]
    assert made > 0
    assert plain > 0
    low, high = row["time_quartiles"]
    assert low <= row["shares"]["time"] <= high
    assert row["shares"]["parameters"] == 19_824 / (25 * 20 * 88 + 88)
    monkeypatch.setattr(results_table, "RESULTS", tmp_path)
    assert results_table.record(folder).name == "inception_cost-cpu.json"
    tables = results_table.tables(results_table.recorded())
    assert tables["inception_cost"] == "\n".join(printed[:3])


def test_the_time_is_the_forms_over_the_plain_ones(monkeypatch):
    times = {"made": [2.0, 3.0, 5.0], "plain": [4.0, 4.0, 4.0]}
    monkeypatch.setattr(inception_cost, "forward", lambda *_: lambda: None)
    monkeypatch.setattr(inception_cost.measuring, "take_turns", lambda *_: times)
    row = inception_cost.compare("7x1 after 1x7", inception_cost.Config())
    assert row["shares"]["time"] == 0.75
    assert row["milliseconds"] == [3000, 4000]


def test_both_are_called_again_after_both_were_compiled_and_then_measured(monkeypatch):
    """The first would otherwise go into the only round cold."""
    calls, names = [], iter(("made", "plain"))

    def forward(*_):
        name = next(names)
        calls.append(f"{name} compiled")
        return lambda: calls.append(name)

    monkeypatch.setattr(inception_cost, "forward", forward)
    row = inception_cost.compare("7x1 after 1x7", inception_cost.Config(rounds=1, pause=0.0))
    assert calls == ["made compiled", "plain compiled", "made", "plain", "made", "plain"]
    assert row["shares"]["time"] > 0


@pytest.mark.parametrize(
    ("forms", "sentence"),
    [
        (["9x9"], "--forms has '9x9': it must be of tutorial's module, 1x1 to 16, then 5x5, "),
        ([], "--forms names none: name some of tutorial's module, 1x1 to 16, then 5x5, "),
        (
            ["3x3 and 3x3", "tutorial's module", "3x3 and 3x3"],
            "--forms has '3x3 and 3x3' twice: each can be there once.",
        ),
    ],
)
def test_forms_that_make_no_table_are_refused(monkeypatch, forms, sentence):
    monkeypatch.setattr(sys, "argv", ["inception_cost", "--forms", *forms])
    monkeypatch.setattr(inception_cost, "compare", None)
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
        inception_cost.main()
