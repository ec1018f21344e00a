"""How far two reviewers agree who judged the same clips without seeing each other's decisions.

Three numbers, since each says something else: Cohen's kappa on accept or reject and on each kind of error (agreement over
chance), F1 of turns (the same person, and more than half of both in common), and F1 of speech time given to the same person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dyconv.audit.decisions import Decision, Kind, Verdict, exchanged, settle
from dyconv.audit.overlay import Annotations
from dyconv.audit.rates import errors_of, is_reviewed
from dyconv.audit.sampling import LEVEL, wilson
from dyconv.records import PERSONS, Clip, Turn

SAME = 0.5  # of the time of two turns together that must be common, for them to be the same turn


@dataclass(frozen=True)
class Pair:
    """Two reviews of one clip."""

    clip: Clip
    reviewers: tuple[str, str]
    verdicts: tuple[Verdict, Verdict]


@dataclass(frozen=True)
class Kappa:
    """Agreement on one yes or no.

    Attributes:
        yes: clips to which the first, the second and both said yes.
        kappa: Cohen's; None where it has no value, since both said the same of every clip.
        same, low, high: share of clips of which both said the same, and its Wilson interval.
    """

    what: str
    clips: int
    yes: tuple[int, int, int]
    kappa: float | None
    same: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """Agreement of first and second reviews.

    Attributes:
        turn_f1, time_f1: of turns and of speech time, 0 to 1, over clips that neither rejected; None without any.
        turns: clips those two are of.
        different: clips that one kept and the other did not, or in which they found different errors.
    """

    clips: int
    kappas: tuple[Kappa, ...]
    turns: int
    turn_f1: float | None
    time_f1: float | None
    different: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, numbers rounded to six digits."""
        return _rounded(asdict(self))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def pairs(annotations: Annotations, clips: Mapping[str, Clip], bases: Mapping[str, str]) -> list[Pair]:
    """Clips with a finished first review and a finished second one by somebody else, each as its own reviewer left it."""
    found = []
    for clip, decisions in sorted(annotations.by_clip.items()):
        if clip not in clips:
            continue
        first, second = (_by_reviewer(decisions, number, bases[clip]) for number in (1, 2))
        both = [(one, two) for one in first for two in second if one != two]
        found += [Pair(clips[clip], (one, two), (first[one], second[two])) for one, two in both[:1]]
    return found


def _by_reviewer(decisions: Sequence[Decision], number: int, base: str) -> dict[str, Verdict]:
    """Finished verdicts of one round by reviewer, who began first coming first."""
    names = dict.fromkeys(d.reviewer for d in decisions if d.round == number)
    own = {
        name: [d for d in decisions if d.kind is Kind.UNDO or (d.round, d.reviewer) == (number, name)]  # anybody may undo
        for name in names
    }
    verdicts = {name: settle(of, base) for name, of in own.items()}
    return {name: verdict for name, verdict in verdicts.items() if is_reviewed(verdict)}


def agreement(found: Sequence[Pair], level: float = LEVEL) -> Agreement:
    """The agreement of pairs of reviews."""
    errors = [tuple(errors_of(verdict) for verdict in pair.verdicts) for pair in found]
    kept = [pair for pair in found if not any(verdict.left_out for verdict in pair.verdicts)]
    kinds = sorted({kind for pair in errors for one in pair for kind in one} - {"any", "rejected", "taken_down"})
    asked = ["rejected", "any", *kinds]
    turns = [tuple(turns_of_review(pair.clip, verdict) for verdict in pair.verdicts) for pair in kept]
    return Agreement(
        clips=len(found),
        kappas=tuple(_kappa(kind, [(kind in one, kind in two) for one, two in errors], level) for kind in asked),
        turns=len(kept),
        turn_f1=turn_f1([(one, two) for one, two in turns]),
        time_f1=time_f1([(one, two) for one, two in turns]),
        different=tuple(pair.clip.id for pair, (one, two) in zip(found, errors, strict=True) if one != two),
    )


def turns_of_review(clip: Clip, verdict: Verdict) -> tuple[Turn, ...]:
    """A clip's turns as one reviewer left them, in the names of the record: a swap of voices counts, one of names not."""
    turns = clip.turns if verdict.turns is None else verdict.turns
    return exchanged(turns) if verdict.swapped == "voices" else turns


def _kappa(what: str, answers: Sequence[tuple[bool, bool]], level: float) -> Kappa:
    from sklearn.metrics import cohen_kappa_score

    yes = (sum(one for one, _ in answers), sum(two for _, two in answers), sum(one and two for one, two in answers))
    if not answers:
        return Kappa(what, 0, yes, None, None, 0.0, 1.0)
    first, second = [one for one, _ in answers], [two for _, two in answers]
    told = len({*first, *second}) > 1
    same = sum(one == two for one, two in answers) / len(answers)
    low, high = wilson(same, len(answers), level)
    kappa = float(cohen_kappa_score(first, second, labels=[False, True])) if told else None
    return Kappa(what, len(answers), yes, kappa, same, low, high)


def turn_f1(reviews: Sequence[tuple[Sequence[Turn], Sequence[Turn]]]) -> float | None:
    """F1 of turns given to p0 or p1: 2 common / (turns of one + turns of the other); None where nobody has any.

    Two turns are the same if they are of one person and more than half of their time together is common to both. As the
    turns of a person do not overlap each other, a turn is the same as one other at most.
    """
    common = total = 0
    for one, two in reviews:
        for person in PERSONS:
            first, second = ([turn.span for turn in turns if turn.person == person] for turns in (one, two))
            total += len(first) + len(second)
            for a in first:
                for b in second:
                    part = a.intersect(b)
                    common += bool(part and part.duration > SAME * (a.duration + b.duration - part.duration))
    return 2 * common / total if total else None


def time_f1(reviews: Sequence[tuple[Sequence[Turn], Sequence[Turn]]]) -> float | None:
    """F1 of the time given to the same person, by pyannote.metrics' precision and recall of identification."""
    from pyannote.core import Annotation, Segment
    from pyannote.metrics.identification import IdentificationPrecision, IdentificationRecall

    if not any(turn.person in PERSONS for both in reviews for turns in both for turn in turns):
        return None
    precision, recall = IdentificationPrecision(), IdentificationRecall()
    for one, two in reviews:
        first, second = Annotation(), Annotation()
        for target, turns in ((first, one), (second, two)):
            for number, turn in enumerate(turns):
                if turn.person in PERSONS and turn.span.duration > 0:
                    target[Segment(float(turn.span.start), float(turn.span.end)), number] = turn.person
        if first or second:
            whole = max(float(turn.span.end) for turn in (*one, *two))
            for metric in (precision, recall):
                metric(first, second, uem=Segment(0.0, whole))
    exact, complete = abs(precision), abs(recall)
    return float(2 * exact * complete / (exact + complete)) if exact + complete else 0.0
