"""Which clips to audit: a stratified random sample, as large as the wanted interval asks for.

Strata are the combinations of what a clip is stratified by (layout, confidence, language, source). A combination that
would give fewer than two clips of the sample is pooled: first over its last field, then over the one before. Within a
stratum chance decides, by a hash of the seed and the clip's id: the same build and seed give the same sample anywhere, and
clips that join a build later move few others. Clips are listed in random order, so that a review broken off early is a
smaller random sample, and not the first sources.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dyconv.audit.checks import HEX_SHA, clip_id, mapping, matching, one_of, strict_json, wrong
from dyconv.audit.decisions import base_of
from dyconv.errors import UsageError
from dyconv.records import Clip, dump
from dyconv.store import write_atomic

FIELDS = ("layout", "confidence", "language", "source")
FILE_NAME = "sample.json"
VERSION = 1
POOLED = "*"
UNKNOWN = "unknown"
LEVEL = 0.95
CONFIDENCE_BANDS = ((0.8, "below 0.8"), (0.95, "0.8 to 0.95"), (math.inf, "0.95 and above"))
_LEAST = 2  # of a stratum in the sample: fewer tell nothing of how its clips differ


@dataclass(frozen=True)
class Stratum:
    """Clips that are alike. `values` are by field, `*` where it was pooled; `size` of them are in the population."""

    values: Mapping[str, str]
    size: int
    sampled: int


@dataclass(frozen=True)
class SampledClip:
    """A clip to review. `stratum` counts from 0; `second`: to be reviewed again, blind; `base` as in a decision."""

    id: str
    base: str
    stratum: int
    second: bool


@dataclass(frozen=True)
class Sample:
    """A sample and how it was drawn.

    Attributes:
        expected, half_width, level: the rate of errors it was sized for, and the interval wanted at that rate.
        second_share: share of the clips that get a blind second review.
        clips: in the order of review.
    """

    seed: int
    by: tuple[str, ...]
    expected: float
    half_width: float
    level: float
    second_share: float
    strata: tuple[Stratum, ...]
    clips: tuple[SampledClip, ...]

    @property
    def population(self) -> int:
        return sum(stratum.size for stratum in self.strata)

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, value: Any, at: str = FILE_NAME) -> Sample:
        """Check plain data and make a sample of it.

        Raises:
            DecisionError: naming the field, what was expected and what was found.
        """
        names = ("seed", "by", "expected", "half_width", "level", "second_share", "strata", "clips")
        fields = mapping(value, at, ("version", *names))
        if fields["version"] != VERSION:
            raise wrong(f"{at}.version", str(VERSION), fields["version"])
        strata = tuple(_stratum(item, f"{at}.strata[{n}]") for n, item in enumerate(_list(fields["strata"], f"{at}.strata")))
        clips = [
            _sampled(item, f"{at}.clips[{n}]", len(strata)) for n, item in enumerate(_list(fields["clips"], f"{at}.clips"))
        ]
        if len({clip.id for clip in clips}) != len(clips):
            raise wrong(f"{at}.clips", "each clip once", f"{len(clips)} with repeats")
        return cls(
            seed=_whole(fields["seed"], f"{at}.seed"),
            by=tuple(one_of(item, f"{at}.by", FIELDS) for item in _list(fields["by"], f"{at}.by")),
            **{name: _share(fields[name], f"{at}.{name}") for name in ("expected", "half_width", "level", "second_share")},
            strata=strata,
            clips=tuple(clips),
        )


def confidence_of(clip: Clip) -> float | None:
    """Mean confidence of the turns given to somebody, weighted by their length, 0 to 1; None where there are none."""
    turns = [turn for turn in clip.turns if turn.person is not None and turn.span.duration > 0]
    total = sum(float(turn.span.duration) for turn in turns)
    return sum(turn.confidence * float(turn.span.duration) for turn in turns) / total if total else None


def values_of(clip: Clip) -> dict[str, str]:
    """What a clip is stratified by."""
    confidence = confidence_of(clip)
    band = UNKNOWN if confidence is None else next(name for limit, name in CONFIDENCE_BANDS if confidence < limit)
    language = (clip.source.language or UNKNOWN).split("-")[0].lower()
    return {"layout": clip.layout or UNKNOWN, "confidence": band, "language": language, "source": clip.source.id}


def wilson(rate: float, size: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a rate seen in `size` trials (which may be an effective size, and not whole).

    Formula: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    from scipy.stats import norm

    if size <= 0:
        return 0.0, 1.0
    if math.isinf(size):
        return rate, rate
    z = float(norm.ppf((1 + level) / 2))
    scale = 1 + z * z / size
    middle = (rate + z * z / (2 * size)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / size + z * z / (4 * size * size))
    return (0.0 if rate == 0 else max(0.0, middle - half)), (1.0 if rate == 1 else min(1.0, middle + half))


def effective_size(size: float, population: int) -> float:
    """Trials worth as much as `size` clips drawn from so many without putting back: infinite where all were drawn."""
    return math.inf if size >= population else size * (population - 1) / (population - size)


def check_level(level: float) -> None:
    """Refuse a confidence level that is none.

    Raises:
        UsageError: if it is not above 0 and below 1.
    """
    if not 0 < level < 1:
        raise UsageError(f"the level must be above 0 and below 1, is {level:g}")


def sample_size(population: int, half_width: float, expected: float, level: float = LEVEL) -> int:
    """The fewest clips whose Wilson interval is at most `half_width` to each side, where `expected` of them are wrong.

    Raises:
        UsageError: if a number is out of its range.
    """
    check_level(level)
    if not 0 < half_width < 1:
        raise UsageError(f"the half-width must be above 0 and below 1, is {half_width:g}")
    if not 0 <= expected <= 1:
        raise UsageError(f"the expected rate must be from 0 to 1, is {expected:g}")
    low, high = min(1, population), population
    while low < high:
        middle = (low + high) // 2
        first, last = wilson(expected, effective_size(middle, population), level)
        low, high = (low, middle) if (last - first) / 2 <= half_width + 1e-12 else (middle + 1, high)
    return low


def draw(
    clips: Iterable[Clip],
    *,
    seed: int = 0,
    half_width: float = 0.05,
    expected: float = 0.1,
    level: float = LEVEL,
    second_share: float = 0.2,
    by: Sequence[str] = FIELDS,
    size: int | None = None,
) -> Sample:
    """Draw a sample.

    Args:
        clips: the population; any order.
        half_width, expected, level: what sizes it, see `sample_size`.
        second_share: share that gets a blind second review, 0 to 1.
        by: fields to stratify by, most important first.
        size: this many clips, whatever the interval.

    Raises:
        UsageError: if there are no clips, an id comes twice, or an argument is out of its range.
    """
    if unknown := [name for name in by if name not in FIELDS]:
        raise UsageError(f"cannot stratify by {unknown[0]!r}", hint=f"there are: {', '.join(FIELDS)}")
    if not 0 <= second_share <= 1:
        raise UsageError(f"the share of second reviews must be from 0 to 1, is {second_share:g}")
    known = {clip.id: ({name: values_of(clip)[name] for name in by}, base_of(clip)) for clip in clips}
    if not known:
        raise UsageError("there are no clips to sample", hint="give a build or release that kept some")
    if size is not None and size < 1:
        raise UsageError(f"a sample has at least 1 clip, asked for {size}")
    wanted = min(len(known), size if size is not None else sample_size(len(known), half_width, expected, level))
    groups = _pooled({clip: values for clip, (values, _) in known.items()}, tuple(by), wanted)
    counts = _allocated([len(members) for _, members in groups], wanted)
    strata, chosen = [], []
    for number, ((values, members), count) in enumerate(zip(groups, counts, strict=True)):
        strata.append(Stratum(values, len(members), count))
        ranked = sorted(members, key=lambda clip: _chance(seed, "draw", clip))[:count]
        chosen += [(clip, number) for clip in ranked]
    chosen.sort(key=lambda item: _chance(seed, "order", item[0]))
    seconds = {
        clip for clip, _ in sorted(chosen, key=lambda item: _chance(seed, "second", item[0]))[: _part(second_share, chosen)]
    }
    picked = tuple(SampledClip(clip, known[clip][1], stratum, clip in seconds) for clip, stratum in chosen)
    return Sample(seed, tuple(by), expected, half_width, level, second_share, tuple(strata), picked)


def _part(share: float, of: Sequence[Any]) -> int:
    return math.ceil(share * len(of) - 1e-9)


def _chance(seed: int, what: str, clip: str) -> bytes:
    return hashlib.sha256(f"{seed}/{what}/{clip}".encode()).digest()


def _pooled(
    values: Mapping[str, Mapping[str, str]], by: tuple[str, ...], wanted: int
) -> list[tuple[dict[str, str], list[str]]]:
    """Strata that are large enough, with their clips; what stays small ends in the stratum of everything."""
    least = _LEAST * len(values) / wanted  # of the population, for the sample to get `_LEAST` of it
    found: list[tuple[dict[str, str], list[str]]] = []
    left = sorted(values)
    for depth in range(len(by), -1, -1):
        groups: dict[tuple[str, ...], list[str]] = {}
        for clip in left:
            groups.setdefault(tuple(values[clip][name] for name in by[:depth]), []).append(clip)
        left = []
        for key, members in sorted(groups.items()):
            if depth == 0 or len(members) >= least:
                found.append(({name: key[n] if n < depth else POOLED for n, name in enumerate(by)}, members))
            else:
                left += members
    return found


def _allocated(sizes: Sequence[int], wanted: int) -> list[int]:
    """Clips of each stratum in the sample: in proportion, by largest remainder, at least two (or all) where it can be."""
    total = sum(sizes)
    shares = [wanted * size / total for size in sizes]
    counts = [min(size, max(_LEAST, math.floor(share))) for size, share in zip(sizes, shares, strict=True)]
    by_rest = sorted(range(len(sizes)), key=lambda n: (counts[n] - shares[n], n))
    while sum(counts) < wanted:
        open_ones = [n for n in by_rest if counts[n] < sizes[n]]
        for n in open_ones[: wanted - sum(counts)]:
            counts[n] += 1
    return counts


def write_sample(sample: Sample, path: Path) -> None:
    """Write a sample as JSON; the same sample gives the same bytes."""
    write_atomic(path, dump(sample.to_json()) + b"\n")


def read_sample(path: Path) -> Sample:
    """Read a sample.

    Raises:
        UsageError: if it is not there or not one; says which field and why.
    """
    if not path.is_file():
        raise UsageError(f"no sample at {path}", hint="draw one: dyconv audit sample OUT --to FOLDER")
    return Sample.from_json(strict_json(path.read_bytes(), str(path)), str(path))


def _list(value: Any, at: str) -> list[Any]:
    if not isinstance(value, list):
        raise wrong(at, "a list", value)
    return value


def _whole(value: Any, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(at, "a whole number", value)
    return value


def _share(value: Any, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise wrong(at, "a number from 0 to 1", value)
    return float(value)


def _stratum(value: Any, at: str) -> Stratum:
    fields = mapping(value, at, ("values", "size", "sampled"))
    values = mapping(fields["values"], f"{at}.values", (), FIELDS)
    size, sampled = (_whole(fields[name], f"{at}.{name}") for name in ("size", "sampled"))
    if not 0 <= sampled <= size:
        raise wrong(f"{at}.sampled", f"0 to {size}", sampled)
    return Stratum({name: str(item) for name, item in values.items()}, size, sampled)


def _sampled(value: Any, at: str, strata: int) -> SampledClip:
    fields = mapping(value, at, ("id", "base", "stratum", "second"))
    stratum = _whole(fields["stratum"], f"{at}.stratum")
    if not 0 <= stratum < strata or not isinstance(fields["second"], bool):
        raise wrong(at, "a stratum that is listed, and second true or false", value)
    base = matching(fields["base"], f"{at}.base", HEX_SHA, "a sha256 in hex")
    return SampledClip(clip_id(fields["id"], f"{at}.id"), base, stratum, fields["second"])
