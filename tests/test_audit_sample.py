"""Samples, error rates and agreement: numbers that are known beforehand."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from dyconv.audit.agreement import agreement, pairs, time_f1, turn_f1
from dyconv.audit.audit_report import HTML, JSON, MARKDOWN, gather, write_report
from dyconv.audit.decisions import Decision, DecisionError, base_of, decide
from dyconv.audit.overlay import Annotations
from dyconv.audit.rates import error_rates, stratified, whole_clips
from dyconv.audit.sampling import Sample, draw, effective_size, read_sample, sample_size, values_of, wilson, write_sample
from dyconv.errors import UsageError
from dyconv.records import Clip, Source, Turn
from dyconv.time import Span

LAYOUTS = ("two-shot", "split", "alternating")
_clock = count()


def population(size: int, sources: int = 10) -> list[Clip]:
    """Clips of ten seconds whose layout, language, source and confidence differ."""
    return [
        Clip(
            id=f"s{n % sources}_{n:05d}",
            source=Source(f"s{n % sources}", "http://127.0.0.1/x", "own", "<b>T|tle</b>", ("en-GB", "de", None)[n % 3]),
            span=Span.of(0, 10),
            layout=LAYOUTS[min(2, n % 7)],
            turns=(Turn("p0", Span.of(0, 4), (0.5, 0.9, 0.99)[n % 3]), Turn("p1", Span.of(5, 9), 0.9)),
        )
        for n in range(size)
    ]


def said(clip: Clip, who: str, kind: str, round: int = 1, **data: Any) -> Decision:
    return decide(clip, who, kind, data, round=round, time=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(_clock)))


def bases(clips: list[Clip]) -> dict[str, str]:
    return {clip.id: base_of(clip) for clip in clips}


@pytest.mark.parametrize(("found", "of"), [(0, 10), (1, 10), (5, 10), (10, 10), (3, 200), (199, 200)])
def test_wilson_is_scipys(found: int, of: int) -> None:
    for level in (0.9, 0.95):
        known = binomtest(found, of).proportion_ci(level, "wilson")
        assert wilson(found / of, of, level) == pytest.approx((known.low, known.high), abs=1e-12)


def test_sample_sizes_are_those_of_tables() -> None:
    # Wilson at 50 %: half-width z / (2 sqrt(n + z^2)), so n = (z / 2w)^2 - z^2 = 380.3 for 5 points at 95 %.
    assert sample_size(10**9, 0.05, 0.5) == 381
    assert sample_size(10**9, 0.10, 0.5) == 93
    # Of 2,000 the same: 381 without putting back are worth 381 * 1999 / 1619; n * 1999 / (2000 - n) >= 380.3 from 320 on.
    assert sample_size(2000, 0.05, 0.5) == 320
    for n, expected, width in ((500, 0.1, 0.03), (2000, 0.02, 0.01), (40, 0.3, 0.001)):
        size = sample_size(n, width, expected)
        low, high = wilson(expected, effective_size(size, n))
        assert (high - low) / 2 <= width + 1e-9
        before = wilson(expected, effective_size(size - 1, n))
        assert (before[1] - before[0]) / 2 > width
    assert sample_size(1, 0.05, 0.1) == 1 and effective_size(7, 7) == math.inf


@pytest.mark.parametrize("wrong", [{"half_width": 0.0}, {"half_width": 1.5}, {"expected": -0.1}, {"level": 1.0}, {"size": 0}])
def test_arguments_out_of_range_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        draw(population(10), **wrong)


def test_other_misuse_is_told() -> None:
    with pytest.raises(UsageError, match="no clips"):
        draw([])
    with pytest.raises(UsageError, match="stratify by 'age'"):
        draw(population(3), by=["age"])
    with pytest.raises(UsageError, match="second reviews"):
        draw(population(3), second_share=1.1)


def test_a_sample_is_in_proportion_and_the_same_anywhere() -> None:
    clips = population(2000)
    sample = draw(clips, seed=7, half_width=0.05, expected=0.1, by=("layout", "confidence"))
    shuffled = list(clips)
    random.Random(3).shuffle(shuffled)
    assert draw(shuffled, seed=7, half_width=0.05, expected=0.1, by=("layout", "confidence")) == sample
    assert {clip.id for clip in draw(clips, seed=8).clips} != {clip.id for clip in sample.clips}
    wanted = sample_size(2000, 0.05, 0.1)
    assert len(sample.clips) == wanted == sum(stratum.sampled for stratum in sample.strata)
    assert sample.population == 2000
    for stratum in sample.strata:
        assert abs(stratum.sampled - wanted * stratum.size / 2000) <= 1
    assert sum(clip.second for clip in sample.clips) == math.ceil(wanted * 0.2)
    known = {clip.id: clip for clip in clips}
    for clip in sample.clips:
        values = values_of(known[clip.id])
        assert all(value in ("*", values[name]) for name, value in sample.strata[clip.stratum].values.items())
        assert clip.base == base_of(known[clip.id])


def test_few_clips_move_when_a_build_grows() -> None:
    before = {clip.id for clip in draw(population(1000), size=200, by=("layout",)).clips}
    after = {clip.id for clip in draw(population(1050), size=200, by=("layout",)).clips}
    assert len(before & after) > 180


def test_small_strata_are_pooled_and_every_clip_is_in_one() -> None:
    clips = population(300, sources=60)
    sample = draw(clips, size=50)
    assert sample.population == 300
    assert all(stratum.sampled >= min(2, stratum.size) for stratum in sample.strata)
    assert any("*" in stratum.values.values() for stratum in sample.strata)
    assert 50 <= len(sample.clips) <= 52
    everything = draw(clips, half_width=0.001)
    assert {clip.id for clip in everything.clips} == {clip.id for clip in clips}
    assert len(draw(clips[:1]).clips) == 1


def test_a_review_broken_off_is_a_random_part() -> None:
    sample = draw(population(2000), size=400, by=("layout",))
    early = Counter(clip.stratum for clip in sample.clips[:100])
    for number, stratum in enumerate(sample.strata):
        share = stratum.sampled / 400
        assert early[number] / 100 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 100))


def test_a_sample_survives_a_file_and_a_bad_one_is_told(tmp_path: Path) -> None:
    sample = draw(population(60), size=20)
    write_sample(sample, tmp_path / "sample.json")
    assert read_sample(tmp_path / "sample.json") == sample
    good = sample.to_json()
    for change in (
        {"version": 2},
        {"seed": "x"},
        {"by": ["age"]},
        {"clips": [good["clips"][0]] * 2},
        {"clips": [{**good["clips"][0], "stratum": 99}]},
        {"strata": [{"values": {}, "size": 1, "sampled": 2}]},
        {"expected": math.nan},
    ):
        with pytest.raises(DecisionError):
            Sample.from_json({**good, **change})
    (tmp_path / "cut.json").write_bytes((tmp_path / "sample.json").read_bytes()[:50])
    with pytest.raises(UsageError, match="not JSON"):
        read_sample(tmp_path / "cut.json")
    with pytest.raises(UsageError, match="no sample at"):
        read_sample(tmp_path / "absent.json")


def test_the_stratified_rate_is_the_textbooks() -> None:
    # Two strata of 900 and 100 clips, 10 reviewed of each, 1 and 5 wrong: 0.9 * 0.1 + 0.1 * 0.5 = 0.14.
    rate, size = stratified([(900, 10, 1), (100, 10, 5)])
    assert rate == pytest.approx(0.14)
    variance = 0.81 * 0.09 / 9 + 0.01 * 0.25 / 9
    effect = variance / (0.14 * 0.86 / 19)
    assert size == pytest.approx(20 * 999 / 980 / effect)
    assert stratified([(10**9, 50, 5)]) == pytest.approx((0.1, 50))  # one stratum: the plain interval
    assert stratified([(500, 30, 0), (500, 30, 0)]) == pytest.approx((0.0, 60 * 999 / 940))
    assert stratified([(30, 30, 3)]) == (0.1, math.inf)  # all were looked at: no doubt is left
    assert stratified([(50, 0, 0), (50, 10, 1)])[0] == 0.1


def test_intervals_hold_what_they_promise() -> None:
    """Of 400 audits of datasets with known rates, at least 93 % of the 95 % intervals hold the truth."""
    generator = np.random.default_rng(5)
    sizes, true = np.array([1200, 500, 300]), np.array([0.02, 0.1, 0.3])
    wrong = [generator.permutation(np.arange(size) < round(size * rate)) for size, rate in zip(sizes, true, strict=True)]
    whole = sum(map(np.sum, wrong)) / sizes.sum()
    held = 0
    for _ in range(400):
        counted = [
            (int(size), n, int(generator.choice(part, n, replace=False).sum()))
            for size, part, n in zip(sizes, wrong, (90, 38, 22), strict=True)
        ]
        low, high = wilson(*stratified(counted))
        held += low <= whole <= high
    assert held / 400 >= 0.93


def test_a_clip_that_nobody_saw_may_be_wrong() -> None:
    """None of 7 wrong, of 8: the one left is wrong in one of eight such samples, so no 95 % interval may leave that out."""
    clips = population(8)
    decisions = [said(clip, "ann", "accept") for clip in clips[:7]]
    rate = error_rates(Annotations.gathered(decisions), bases(clips), None).of("any")
    assert (rate.rate, rate.low, rate.high) == (0.0, 0.0, 1 / 8)
    decisions.append(said(clips[7], "ann", "accept"))
    assert error_rates(Annotations.gathered(decisions), bases(clips), None).of("any").high == 0.0
    assert whole_clips(3 / 7, 3 / 7, 7) == (3 / 7, 3 / 7)
    assert whole_clips(0.01, 0.99, 8, found=2, reviewed=6) == (2 / 8, 4 / 8)  # two are wrong, four are right, two unseen


def test_error_rates_count_what_was_found() -> None:
    clips = population(100)
    sample = draw(clips, size=40, by=())
    known = {clip.id: clip for clip in clips}
    picked = [known[clip.id] for clip in sample.clips]
    decisions = [said(clip, "ann", "accept") for clip in picked[:30]]
    decisions += [said(picked[0], "ann", "swap", what="voices"), said(picked[1], "ann", "turns", turns=[])]
    decisions += [said(picked[2], "ann", "mark", what="bleed"), said(picked[2], "ann", "mark", what="cut")]
    decisions += [said(clip, "ann", "reject", reason="bleed") for clip in picked[30:33]]
    decisions += [said(picked[33], "ann", "takedown", why="asked"), said(picked[34], "ann", "mark", what="noise")]
    decisions += [said(picked[3], "bob", "mark", 2, what="sync"), said(picked[3], "bob", "accept", 2)]
    rates = error_rates(Annotations.gathered(decisions), bases(clips), sample)
    assert (rates.reviewed, rates.planned, rates.population) == (34, 40, 100)
    found = {rate.kind: rate.found for rate in rates.kinds if rate.found}
    assert found == {
        "any": 6, "rejected": 3, "swapped": 1, "speaker": 1, "turns": 1, "bleed": 4, "cut": 1, "taken_down": 1,
    }  # fmt: skip
    assert rates.of("any").rate == pytest.approx(6 / 34)
    low, high = wilson(6 / 34, 34 * 99 / 66)  # 0.099 to 0.294: outwards to whole clips of a hundred
    assert (rates.of("any").low, rates.of("any").high) == (math.floor(100 * low) / 100, math.ceil(100 * high) / 100)
    unreviewed = error_rates(Annotations(), bases(clips), sample)
    assert unreviewed.of("any").rate is None and unreviewed.reviewed == 0
    changed = bases([replace(clip, layout="pip") for clip in clips])
    assert error_rates(Annotations.gathered(decisions), changed, sample).stale == 34
    assert error_rates(Annotations.gathered(decisions), bases(clips), None).of("any").found == 6


def test_kappa_is_the_textbooks() -> None:
    """50 grants read by two: both yes 20, both no 15, only the first 5, only the second 10: kappa 0.4 (Cohen's example)."""
    clips = population(50)
    answers = [(False, False)] * 20 + [(True, True)] * 15 + [(False, True)] * 5 + [(True, False)] * 10
    decisions = []
    for clip, both in zip(clips, answers, strict=True):
        for number, (who, rejects) in enumerate(zip(("ann", "bob"), both, strict=True), 1):
            data = {"reason": "noise"} if rejects else {}
            decisions.append(said(clip, who, "reject" if rejects else "accept", number, **data))
    found = pairs(Annotations.gathered(decisions), {clip.id: clip for clip in clips}, bases(clips))
    result = agreement(found)
    rejected = next(kappa for kappa in result.kappas if kappa.what == "rejected")
    assert (rejected.clips, rejected.yes, rejected.same) == (50, (25, 20, 15), 0.7)
    assert rejected.kappa == pytest.approx(0.4)
    assert result.turns == 20 and result.turn_f1 == 1.0 and result.time_f1 == 1.0
    assert len(result.different) == 15
    same = agreement([pair for pair in found if not any(verdict.left_out for verdict in pair.verdicts)])
    assert same.kappas[0].kappa is None and same.kappas[0].same == 1.0
    assert agreement([]).turn_f1 is None


def test_one_reviewer_is_no_second_review_and_undone_ones_are_none() -> None:
    clip = population(1)[0]
    twice = [said(clip, "ann", "accept"), said(clip, "ann", "accept", 2)]
    find = lambda decisions: pairs(Annotations.gathered(decisions), {clip.id: clip}, bases([clip]))  # noqa: E731
    assert find(twice) == []
    other = said(clip, "bob", "reject", 2, reason="cut")
    assert len(find([*twice, other])) == 1
    assert find([*twice, other, said(clip, "bob", "undo", 2, decision=other.id)]) == []


def turns(*items: tuple[str | None, float, float]) -> tuple[Turn, ...]:
    return tuple(Turn(person, Span.of(start, end), 1.0) for person, start, end in items)


def test_turn_and_time_f1() -> None:
    one = turns(("p0", 0, 4), ("p1", 5, 9))
    assert turn_f1([(one, one)]) == 1.0 and time_f1([(one, one)]) == 1.0
    other = turns(("p0", 0, 5), ("p0", 5, 9))  # the first edge moved, the second turn given to the other
    assert turn_f1([(one, other)]) == 0.5
    assert time_f1([(one, other)]) == pytest.approx(2 * 4 / (8 + 9))
    assert turn_f1([(one, ())]) == 0.0 and time_f1([(one, ())]) == 0.0
    assert turn_f1([((), turns((None, 0, 3)))]) is None and time_f1([((), turns((None, 0, 3)))]) is None
    split = turns(("p0", 0, 1.9), ("p0", 2.1, 4), ("p1", 5, 9))  # a turn in two: neither half is the same turn
    assert turn_f1([(one, split)]) == pytest.approx(2 / 5)
    both = turns(("p0", 0, 4), ("p1", 2, 4))
    assert time_f1([(both, turns(("p0", 0, 4)))]) == pytest.approx(2 * 4 / 10)


def test_agreement_counts_swapped_voices_and_corrected_turns() -> None:
    clip = population(1)[0]
    right = [{"person": "p1", "start_s": 0, "end_s": 4}, {"person": "p0", "start_s": 5, "end_s": 9}]
    decisions = [said(clip, "ann", "swap", what="voices"), said(clip, "ann", "accept")]
    decisions += [said(clip, "bob", "turns", 2, turns=right), said(clip, "bob", "accept", 2)]
    result = agreement(pairs(Annotations.gathered(decisions), {clip.id: clip}, bases([clip])))
    assert (result.turn_f1, result.time_f1) == (1.0, 1.0)


def test_the_report_tells_everything_and_escapes_it(tmp_path: Path) -> None:
    clips = population(60)
    sample = draw(clips, size=30, second_share=0.2, by=("layout", "source"))
    known = {clip.id: clip for clip in clips}
    decisions = []
    for clip in sample.clips[:28]:
        wrong = clip.stratum == 0
        data = {"reason": "bleed", "note": "<i>b|d</i>"} if wrong else {}
        decisions.append(said(known[clip.id], "<b>ann</b>", "reject" if wrong else "accept", **data))
        if clip.second:
            decisions.append(said(known[clip.id], "bob", "accept", 2))
    decisions.append(said(replace(clips[0], id="gone_1"), "bob", "accept"))
    report = gather(clips, Annotations.gathered(decisions), sample, name="<script>alert(1)</script>")
    assert report.left == 2 and report.gone == ("gone_1",)
    paths = write_report(report, tmp_path / "one")
    assert [path.name for path in paths] == [HTML, MARKDOWN, JSON]
    html, text = (tmp_path / "one" / HTML).read_text(), (tmp_path / "one" / MARKDOWN).read_text()
    for page in (html, text):
        assert "<script" not in page and "<b>" not in page and "<i>" not in page
        assert "partner heard in a voice" in page and "2 of the sampled clips have no review yet" in page
        assert "gone_1" in page and "95 % Wilson" in page
    assert "@page" in html and "http" not in html.replace("http-equiv", "")
    rows = [line for line in text.splitlines() if line.startswith("| `s")]
    assert rows and all(line.replace("\\|", "").count("|") == 5 for line in rows)
    again = write_report(
        gather(reversed(clips), Annotations.gathered(reversed(decisions)), sample, name=report.name), tmp_path / "two"
    )
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_a_sample_of_another_dataset_is_told(tmp_path: Path) -> None:
    sample = draw(population(40), size=10)
    report = gather(population(50), Annotations(), sample)
    assert (report.clips, report.rates.population) == (50, 40)
    write_report(report, tmp_path)
    for name in (HTML, MARKDOWN):
        assert "drawn when the dataset had 40 clips" in (tmp_path / name).read_text()


def test_a_report_without_anything(tmp_path: Path) -> None:
    report = gather(population(3), Annotations(), name="empty")
    write_report(report, tmp_path)
    assert "No sample was drawn" in (tmp_path / HTML).read_text()
    assert "No clip has two finished reviews" in (tmp_path / MARKDOWN).read_text()
