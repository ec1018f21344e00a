"""Histograms of what faces do: they add up, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.case import ALL, Case, View
from training.evaluation.distributions import BINS, Spread, distributions
from training.evaluation.evidence import Evidence

FRAMES = 400


def evidence(seed: int, view: View = View.INTERACTIVE, *, turning: float = 0.0, read: bool = True) -> Evidence:
    """A face whose mouth opens at random and whose head turns by this many degrees a second."""
    rng = np.random.default_rng(seed)
    yaw = np.deg2rad(turning) * (np.arange(FRAMES) - FRAMES / 2) / 25
    arrays = {"present": np.arange(FRAMES) % 100 > 9}
    if read:
        head = np.stack([yaw, np.zeros(FRAMES), np.zeros(FRAMES)], axis=1).astype(np.float32)
        arrays |= {"curves.mouth": rng.uniform(-0.05, 0.6, FRAMES).astype(np.float32), "curves.head": head}
    silence = np.zeros(FRAMES, np.float32)
    case = Case(f"c{seed}", "p0", f"u{seed}", view, FRAMES)
    return Evidence(case, arrays, arrays, {}, {}, {}, silence, silence, {ALL: np.ones(FRAMES, bool)})


def test_shares_agree_with_numpy_and_hold_what_lies_beyond_the_ends() -> None:
    spread, cases = Spread(), [evidence(seed) for seed in range(3)]
    for case in cases:
        spread.add(case)
    found = {item.title: item for item in distributions({"ours": spread})}
    mouth = found["mouth opening"]
    values = np.concatenate([100 * case.made["curves.mouth"][case.made["present"]] for case in cases])
    wanted = np.histogram(np.clip(values, mouth.low, mouth.high), BINS, (mouth.low, mouth.high))[0] / len(values)
    assert mouth.shares["ours"] == pytest.approx(wanted, abs=1e-6)
    assert sum(mouth.shares["ours"]) == pytest.approx(1.0, abs=1e-4)
    assert mouth.shares["ours"][-1] > 5 * mouth.shares["ours"][-2]  # a third of the frames is beyond 40 %


@pytest.mark.parametrize("turning", [5.0, 15.0])
def test_a_head_that_turns_evenly_has_one_speed(turning: float) -> None:
    spread = Spread()
    spread.add(evidence(0, turning=turning))
    found = {item.title: item for item in distributions({"ours": spread})}
    speed = found["head speed"]
    place = int(np.argmax(speed.shares["ours"]))
    edges = np.linspace(speed.low, speed.high, BINS + 1)
    assert speed.shares["ours"][place] > 0.45 and edges[place] - 0.1 <= turning <= edges[place + 1] + 0.1
    assert np.count_nonzero(found["head yaw"].shares["ours"]) > 10


def test_systems_and_views_are_kept_apart_and_what_is_not_read_is_left_out() -> None:
    one, other, blind = Spread(), Spread(), Spread()
    one.add(evidence(0))
    one.add(evidence(1, View.LISTENING))
    other.add(evidence(0, turning=10.0))
    blind.add(evidence(0, read=False))
    found = distributions({"ground truth": one, "ours": other, "blind": blind})
    assert [(item.view, item.title) for item in found][::3] == [
        ("interactive", "mouth opening"),
        ("listening", "mouth opening"),
    ]
    assert [set(item.shares) for item in found] == [{"ground truth", "ours"}] * 3 + [{"ground truth"}] * 3
    assert distributions({"blind": blind}) == ()
