"""What a step sends between devices, and what that means on paper."""

import pytest

from experiments import scaling
from experiments.scaling import Config, Counted
from jaxlessons import devices
from jaxlessons.collectives import Traffic


def test_the_times_on_paper_are_the_rings_and_the_messages():
    counted = Counted("a step", 2_000_000, 5e10, {"all-reduce": Traffic(3, 8_000_000)})
    config = Config(tflops=50, bandwidth=10, latency=21)
    # 2 (n - 1)/n x 0.8 ms, and 3 collectives x 2 log2(n) x 0.021 ms; computing takes 1 ms.
    times = [1.4 + 0.378, 1.575 + 0.756, 1.596875 + 1.134]
    cells = [f"{ms:.2f}, {ms / (1 + ms):.0%}" for ms in times]
    assert scaling.row(counted, config) == (
        "| a step | 2,000,000 | 50.0 GFLOP | 3 all-reduce | 8.00 MB | " + " | ".join(cells) + " |"
    )
    head, rule, _ = scaling.table([scaling.row(counted, config)]).splitlines()
    assert head.count("|") == rule.count("|") == 9
    assert "| 512 devices: ms, share of time |" in head


@pytest.mark.slow
@pytest.mark.parametrize("make", scaling.WORKLOADS)
def test_a_step_sends_its_gradient_and_little_more(make):
    counted = make(devices.layout(8), 4)
    assert set(counted.traffic) == {"all-reduce"}
    gradient = 4 * counted.parameters
    # An LSTM's two biases have one gradient.
    assert 0.99 * gradient < counted.traffic["all-reduce"].bytes < 1.01 * gradient
