"""Sums by unit, their intervals, and differences between systems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from dyconv.errors import DyconvError
from training.evaluation.bootstrap import draw_counts, drawn_values, jackknife, left_out, percentile, tail, total
from training.evaluation.case import ALL, Case, View
from training.evaluation.evidence import Evidence
from training.evaluation.metric import FrameMean, Sums
from training.evaluation.results import INFINITE, NOTHING, TOO_LITTLE, Result
from training.evaluation.tally import GROUPS, Tally, differences
from training.evaluation.versus import unpaired

MEAN = FrameMean("error", better="lower", about="")


class Heavy(FrameMean):
    heavy = True


def evidence(values: np.ndarray, unit: str, case: str, view: View = View.INTERACTIVE, **slices: np.ndarray) -> Evidence:
    values = np.asarray(values, np.float32)
    count = len(values)
    masks = {ALL: np.ones(count, bool), **{name.replace("__", "="): mask for name, mask in slices.items()}}
    silence = np.zeros(count, np.float32)
    return Evidence(Case(case, "p0", unit, view, count), {}, {}, {}, {"error": values}, {}, silence, silence, masks)


def tally(units: Sequence[Sequence[np.ndarray]], system: str = "ours", metric: FrameMean = MEAN, shift: float = 0.0) -> Tally:
    """Of units, each a list of cases' values."""
    made = Tally([metric], system)
    for unit, cases in enumerate(units):
        for number, values in enumerate(cases):
            made.add(evidence(np.asarray(values) + shift, f"u{unit:03}", f"u{unit:03}_{number}"))
    return made


def drawn(units: int, seed: int, spread: float = 1.0, cases: int = 2) -> list[list[np.ndarray]]:
    """Units that differ by `spread` from each other, cases of some frames with noise."""
    rng = np.random.default_rng(seed)
    return [[rng.normal(rng.normal(0, spread), 0.3, int(rng.integers(5, 60))) for _ in range(cases)] for _ in range(units)]


def only(results: Sequence[Result]) -> Result:
    assert len(results) == 1
    return results[0]


def test_value_is_the_mean_over_all_frames_and_everything_is_counted() -> None:
    units = drawn(7, 1)
    found = only(tally(units).estimates(50))
    flat = np.concatenate([values for cases in units for values in cases])
    assert found.value == pytest.approx(flat.mean(), rel=1e-6)
    assert (found.cases, found.units, found.frames) == (14, 7, len(flat))
    assert found.low is not None and found.high is not None and found.low < flat.mean() < found.high


def test_interval_agrees_with_scipy() -> None:
    units = drawn(40, 2)
    sums = np.array([sum(values.sum() for values in cases) for cases in units])
    counts = np.array([sum(len(values) for values in cases) for cases in units], float)
    reference = stats.bootstrap(
        (sums, counts),
        lambda one, other, axis=-1: one.sum(axis) / other.sum(axis),
        paired=True,
        n_resamples=8000,
        method="percentile",
        confidence_level=1 - 2 * tail(40),
        rng=np.random.default_rng(0),
    ).confidence_interval
    found = only(tally(units).estimates(8000))
    assert found.low is not None and found.high is not None
    tolerance = 0.05 * (reference.high - reference.low)  # of two sets of draws
    assert abs(found.low - reference.low) < tolerance and abs(found.high - reference.high) < tolerance


def test_interval_of_two_units_is_known() -> None:
    """Means 0 and 1, equally long: drawn both times the one, both times the other, or one of each."""
    found = only(tally([[np.zeros(10)], [np.ones(10)]]).estimates(2000))
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_coverage_is_near_the_promised_level() -> None:
    rng, hits, repeats = np.random.default_rng(5), 0, 400
    for number in range(repeats):
        parts: list[Sums] = [{"sum": np.asarray(rng.normal(2.0, 1.0)), "count": np.asarray(1.0)} for _ in range(40)]
        interval = percentile(drawn_values(MEAN.value, parts, draw_counts(40, 200, number)), MEAN.value(total(parts)), 40)
        assert interval is not None
        hits += interval[0] <= 2.0 <= interval[1]
    assert 0.90 <= hits / repeats <= 0.98


def test_few_units_have_wider_intervals() -> None:
    """Of 6 units the plain percentile interval holds the truth far too seldom."""
    assert tail(10_000) == pytest.approx(0.025, rel=1e-3) and tail(40) > tail(10) > tail(5) > tail(2) > 0
    rng, hits, plain, repeats = np.random.default_rng(6), 0, 0, 600
    for number in range(repeats):
        values = rng.normal(size=6)
        means = draw_counts(6, 400, number) @ values / 6
        low, high = percentile(means, float(values.mean()), 6) or (0.0, 0.0)
        hits += low <= 0.0 <= high
        low, high = map(float, np.quantile(means, (0.025, 0.975)))
        plain += low <= 0.0 <= high
    assert plain / repeats < 0.89 and 0.93 < hits / repeats < 0.98


class Entropy(FrameMean):
    """Of a histogram in bits: draws with replacement see fewer of the rare values, so all of them are too low."""

    def value(self, sums: Sums) -> float:
        shares = sums["counts"][sums["counts"] > 0] / sums["counts"].sum()
        return float(-(shares * np.log2(shares)).sum())


def test_draws_with_a_bias_are_moved_back() -> None:
    """The interval covers what sets of this size have on average, and holds its own estimate."""
    rng, metric = np.random.default_rng(8), Entropy("entropy", better="", about="")
    weights = rng.dirichlet(np.full(40, 0.5))
    sets: list[list[Sums]] = [[{"counts": rng.multinomial(4, weights).astype(float)} for _ in range(25)] for _ in range(300)]
    estimates = [metric.value(total(parts)) for parts in sets]
    drawn = [drawn_values(metric.value, parts, draw_counts(25, 150, number)) for number, parts in enumerate(sets[:150])]
    intervals = [percentile(values, estimate, 25) for values, estimate in zip(drawn, estimates, strict=False)]
    assert all(found and found[0] < estimate < found[1] for found, estimate in zip(intervals, estimates, strict=False))
    hits = sum(found is not None and found[0] <= np.mean(estimates) <= found[1] for found in intervals)
    assert 0.88 <= hits / 150 <= 0.99
    plain = [np.quantile(values, (0.025, 0.975)) for values in drawn]
    assert sum(low <= np.mean(estimates) <= high for low, high in plain) < hits - 15


def test_frames_of_a_unit_do_not_narrow_the_interval() -> None:
    """Clips of one source are alike: ten copies of everything say no more than one."""
    units = drawn(12, 3)
    once, tenfold = only(tally(units).estimates(400)), only(tally([cases * 10 for cases in units]).estimates(400))
    assert once.low == pytest.approx(tenfold.low) and once.high == pytest.approx(tenfold.high)


def test_one_unit_has_no_interval() -> None:
    found = only(tally(drawn(1, 4)).estimates(100))
    assert found.value is not None and found.low is None and found.high is None
    assert found.interval == "no interval: one unit"


def test_order_of_cases_does_not_matter() -> None:
    cases = [
        evidence(values, f"u{unit}", f"{unit}_{number}")
        for unit, group in enumerate(drawn(6, 5))
        for number, values in enumerate(group)
    ]
    one, other = Tally([MEAN]), Tally([MEAN])
    for case in cases:
        one.add(case)
    for case in reversed(cases):
        other.add(case)
    first, second = only(one.estimates(100)), only(other.estimates(100))
    assert (first.value, first.low, first.high) == pytest.approx((second.value, second.low, second.high), rel=1e-12)


def test_views_and_slices_are_kept_apart() -> None:
    made = Tally([MEAN], "ours")
    for unit in range(4):
        values = np.array([0.0] * 5 + [1.0] * 5)
        talking = values > 0.5
        made.add(evidence(values, f"u{unit}", f"c{unit}", state__speaking=talking, state__silent=~talking))
        made.add(evidence(values + 5, f"u{unit}", f"c{unit}", View.LISTENING))
    found = {(result.view, result.slice): result for result in made.estimates(50)}
    assert list(found) == [
        ("interactive", ALL),
        ("interactive", "state=silent"),
        ("interactive", "state=speaking"),
        ("listening", ALL),
    ]
    assert found["interactive", "state=speaking"].value == 1.0 and found["interactive", "state=silent"].value == 0.0
    assert found["interactive", "state=speaking"].frames == 20 and found["listening", ALL].value == 5.5
    assert "10 draws" in found["interactive", "state=silent"].interval


def test_what_is_not_measured_is_said() -> None:
    made = Tally([MEAN])
    made.add(evidence(np.full(5, np.nan), "u", "c"))
    assert only(made.estimates()).word == NOTHING
    endless = only(tally([[np.full(3, np.inf)], [np.ones(3)]]).estimates(20))
    assert (endless.value, endless.word, endless.low) == (None, INFINITE, None)


class Refusing(FrameMean):
    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        if evidence.case.clip == "bad":
            raise DyconvError("no coefficients of clip bad", hint="give them")
        return super().sums(evidence, mask)


class Spoilt(FrameMean):
    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        return {"sum": np.asarray(evidence.frames["error"].sum()), "count": np.asarray(1.0)}


def test_what_one_metric_refuses_the_others_still_measure() -> None:
    made = Tally(
        [Refusing("refusing", better="", about="", needs=frozenset()), MEAN, Spoilt("spoilt", better="", about="")], "ours"
    )
    case = evidence(np.array([1.0, np.nan]), "u", "bad")
    with_all = Evidence(**{**vars(case), "frames": dict.fromkeys(("error", "refusing", "spoilt"), case.frames["error"])})
    problems = made.add(with_all)
    assert [problem.message for problem in problems] == ["refusing: no coefficients of clip bad", "spoilt: its sum is NaN"]
    assert all(problem.case == "bad.p0" and problem.system == "ours" and problem.hint for problem in problems)
    assert {result.metric: result.value for result in made.estimates()} == {"error": 1.0, "refusing": None, "spoilt": None}


def test_a_value_that_sums_do_not_suffice_for_has_a_word() -> None:
    class Never(FrameMean):
        def value(self, sums: Sums) -> float:
            return float("nan")

    assert only(tally(drawn(3, 1), metric=Never("error", better="", about="")).estimates(10)).word == TOO_LITTLE


def test_paired_differences_are_far_narrower_than_what_units_differ_by() -> None:
    units = drawn(10, 6, spread=5.0)
    ours, other = tally(units, "ours", shift=0.2), tally(units, "static")
    found = differences(ours, other, 300)[0]
    assert found.value == pytest.approx(0.2, abs=1e-6) and found.shown and found.paired
    assert found.low == pytest.approx(0.2, abs=1e-6) and found.high == pytest.approx(0.2, abs=1e-6)
    loose = unpaired(ours, other, 300)[0]
    assert loose.low is not None and loose.high is not None and loose.high - loose.low > 1.0 and not loose.shown


def test_units_with_other_cases_are_left_out_of_a_difference() -> None:
    units = drawn(6, 7)
    ours, other = tally(units), tally([*units[:5], units[5][:1]], "static")
    other.add(evidence(np.full(9, 1e6), "u009", "u009_0"))
    found = differences(ours, other, 100)[0]
    assert (found.value, found.units) == (0.0, 5)
    assert "2 left out" in found.interval
    lone = tally([[np.full(4, 3.0)]], "static")
    assert differences(tally(units), lone, 10) == []


@pytest.mark.parametrize("units", [3, 8, 40])
def test_heavy_sums_are_kept_for_few_groups(units: int) -> None:
    metric = Heavy("error", better="lower", about="")
    made = Tally([metric], units=[f"u{number:03}" for number in range(units)])
    for number, cases in enumerate(drawn(units, 8)):
        for at, values in enumerate(cases):
            made.add(evidence(values, f"u{number:03}", f"{number}_{at}", half__first=np.arange(len(values)) < 3))
    assert len(made.parts["interactive", ALL, "error"]) == min(units, GROUPS)
    found = {result.slice: result for result in made.estimates()}
    assert found[ALL].units == units and found[ALL].interval == f"jackknife, {min(units, GROUPS)} groups of units"
    assert found["half=first"].low is None and found["half=first"].interval == "no interval: heavy, in a slice"


def test_jackknife_of_a_mean_is_the_t_interval() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=8)
    parts: list[Sums] = [{"sum": np.asarray(value), "count": np.asarray(1.0)} for value in values]
    found = jackknife(float(values.mean()), left_out(MEAN.value, parts))
    assert found == pytest.approx(stats.t.interval(0.95, 7, values.mean(), stats.sem(values)))


def test_heavy_groups_go_by_name_where_units_are_not_known() -> None:
    metric = Heavy("error", better="lower", about="")
    one, other = tally(drawn(20, 9), metric=metric), tally(drawn(20, 9), "static", metric=metric, shift=1.0)
    assert set(one.parts["interactive", ALL, "error"]) == set(other.parts["interactive", ALL, "error"])
    found = differences(one, other)[0]
    assert found.value == pytest.approx(-1.0, abs=1e-6) and found.high == pytest.approx(-1.0, abs=1e-6)
    assert "the same" in found.interval and found.units == 20


def test_sums_do_not_grow_with_frames_or_cases() -> None:
    def size(cases: int) -> int:
        made = tally([[np.ones(50)] * cases for _ in range(3)])
        return sum(array.nbytes for parts in made.parts.values() for part in parts.values() for array in part.sums.values())

    assert size(2) == size(40) > 0


class Wide(Heavy):
    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        return {"outer": np.full((400, 400), evidence.frames["error"].sum(dtype=float)), "count": np.asarray(1.0)}

    def value(self, sums: Sums) -> float:
        return float(sums["outer"][7, 9] / sums["count"])


def test_large_sums_lie_in_files_and_add_up_all_the_same() -> None:
    made = tally([[np.full(2, unit + 1.0)] * 2 for unit in range(8)], metric=Wide("error", better="", about=""))
    held = [part.sums["outer"] for part in made.parts["interactive", ALL, "error"].values()]
    assert all(isinstance(array, np.memmap) for array in held)
    found = only(made.estimates())
    assert found.value == pytest.approx(9.0) and found.low is not None and found.low < 9.0


def test_large_sums_are_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    parts: list[Sums] = [{"outer": rng.normal(size=(6, 6)), "count": np.asarray(1.0)} for _ in range(9)]

    def value(sums: Sums) -> float:
        return float(np.trace(sums["outer"]) / sums["count"])

    whole = drawn_values(value, parts, draw_counts(9, 50, 0))
    monkeypatch.setattr("training.evaluation.bootstrap._CHUNK_BYTES", 1000)
    assert drawn_values(value, parts, draw_counts(9, 50, 0)) == pytest.approx(whole, rel=1e-12)
    direct = [
        np.trace(sum(count * part["outer"] for count, part in zip(row, parts, strict=True))) / 9
        for row in draw_counts(9, 50, 0)
    ]
    assert whole == pytest.approx(direct)


def test_no_interval_goes_where_the_number_cannot() -> None:
    class Bounded(Heavy):
        limits = (0.0, 1.0)

    units = [[np.full(3, value)] for value in (0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0)]
    found = only(tally(units, metric=Bounded("error", better="", about="")).estimates())
    free = only(tally(units, metric=Heavy("error", better="", about="")).estimates())
    assert free.low is not None and free.low < 0.0 and (found.low, found.high) == (0.0, min(1.0, free.high or 1.0))


def test_values_at_once_are_used_only_where_they_belong() -> None:
    class Doubled(FrameMean):
        def value(self, sums: Sums) -> float:
            return 2 * super().value(sums)

    units = drawn(9, 12)
    plain, doubled = (
        only(tally(units).estimates(60)),
        only(tally(units, metric=Doubled("error", better="", about="")).estimates(60)),
    )
    assert plain.low is not None and plain.high is not None
    assert (doubled.low, doubled.high) == pytest.approx((2 * plain.low, 2 * plain.high), rel=1e-12)


def test_unpaired_interval_agrees_with_scipy() -> None:
    one, other = drawn(30, 10, cases=1), drawn(25, 11, cases=1)
    level = (
        [[np.full(4, values.mean()) for values in cases] for cases in one],
        [[np.full(4, v.mean()) for v in cases] for cases in other],
    )
    found = unpaired(tally(level[0], "A"), tally(level[1], "B"), 8000)[0]
    means = [np.array([cases[0].mean() for cases in units]) for units in level]
    reference = stats.bootstrap(
        means,
        lambda a, b, axis=-1: a.mean(axis) - b.mean(axis),
        n_resamples=8000,
        method="percentile",
        confidence_level=1 - 2 * tail(25),
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found.low is not None and found.high is not None and not found.paired
    tolerance = 0.06 * (reference.high - reference.low)
    assert abs(found.low - reference.low) < tolerance and abs(found.high - reference.high) < tolerance
