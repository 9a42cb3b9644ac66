from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.models import networks
from transfer.training import fine_tuning
from transfer.training.schedule import FewShotSchedule, shuffled_batches, warmup_cosine


@given(examples=st.integers(1, 50), batch=st.integers(1, 60), steps=st.integers(1, 20))
def test_every_pass_takes_every_example_once(examples: int, batch: int, steps: int) -> None:
    batches = shuffled_batches(examples, batch, steps, seed=3)
    assert batches.shape == (steps, batch)
    order = batches.ravel()
    for start in range(0, len(order) - examples + 1, examples):
        assert sorted(order[start : start + examples]) == list(range(examples))


def test_passes_differ_and_depend_on_the_seed() -> None:
    first, second = shuffled_batches(20, 20, 2, seed=0)
    assert first.tolist() != second.tolist()
    assert shuffled_batches(20, 20, 2, seed=1)[0].tolist() != first.tolist()


@given(steps=st.integers(1, 300), peak=st.floats(1e-5, 1), warmup=st.floats(0, 1))
def test_rates_stay_between_zero_and_the_peak_and_reach_it(steps: int, peak: float, warmup: float) -> None:
    rates = warmup_cosine(steps, peak, warmup)
    assert rates.shape == (steps,)
    assert rates.dtype == np.float32
    assert (rates >= 0).all()
    assert rates.max() == pytest.approx(peak, rel=1e-5)
    top = rates.argmax()
    assert (np.diff(rates[: top + 1]) >= 0).all()
    assert (np.diff(rates[top:]) <= 0).all()


def test_a_cosine_worked_by_hand() -> None:
    assert warmup_cosine(6, 1.0, 1 / 3) == pytest.approx([0.5, 1, 1, (1 + 2**-0.5) / 2, 0.5, (1 - 2**-0.5) / 2])


def test_steps_grow_with_the_number_of_shots_alone() -> None:
    schedule = FewShotSchedule(steps=100, steps_growth=0.5, batch=8, peak_rate=0.1, warmup=0.1, beta_1=0.9, beta_2=0.99)
    assert len(schedule.plan(5, 1, seed=0).rates) == 100
    assert len(schedule.plan(500, 100, seed=0).rates) == 1000
    plan = schedule.plan(5, 1, seed=0)
    assert plan.batches.shape == (100, 5)
    assert plan.examples_seen == 500
    assert schedule.plan(500, 100, seed=0).batches.shape == (1000, 8)


def test_an_automatic_peak_rate_is_lower_for_deeper_networks() -> None:
    """As a rate that suits four layers kills a network of fifty."""
    kernel, bias = np.zeros((3, 3), np.float32), np.zeros(3, np.float32)
    auto = fine_tuning.Params(
        **{"shift": 0, "steps": 1, "steps_growth": 0.5, "batch": 8, "warmup": 0.1, "beta_1": 0.9, "beta_2": 0.9},
        peak_rate="auto",
    )
    for layers, rate in ((1, 0.004), (4, 0.004), (8, 0.002), (54, 0.000296)):
        assert auto.suited_to(networks.Network("", [kernel, bias] * layers)).peak_rate == rate
    chosen = auto.model_copy(update={"peak_rate": 0.01})
    assert chosen.suited_to(networks.Network("", [kernel] * 54)) == chosen
