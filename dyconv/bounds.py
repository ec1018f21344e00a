"""How large what comes from outside may be, and JSON that is read within that.

A file can claim more than it holds: an array of 10^12 numbers in a hundred bytes, a tar member without end, a film of thirty
years. Each reader of such files asks here how much is too much, and says so by name. Every bound lies far above honest
data; whoever has more raises it with the environment variable that the error names.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dyconv.errors import DyconvError, UsageError

_PREFIX = "DYCONV_MAX_"


@dataclass(frozen=True)
class Bound:
    """A size that is not passed.

    Attributes:
        name: the environment variable's, after `DYCONV_MAX_`.
        value: what holds where the variable is not set.
        why: what honest data need.
    """

    name: str
    value: int
    why: str

    @property
    def variable(self) -> str:
        return _PREFIX + self.name

    @property
    def now(self) -> int:
        """The bound in force.

        Raises:
            UsageError: if the variable is set to something else than a whole number above 0.
        """
        told = os.environ.get(self.variable)
        if told is None:
            return self.value
        if not told.isascii() or not told.isdigit() or not 0 < len(told) < 19 or not int(told):
            raise UsageError(f"{self.variable}: expected a whole number above 0, found {told[:40]!r}")
        return int(told)

    @property
    def hint(self) -> str:
        """What to do about data that honestly have more."""
        return f"if that is right, raise the bound: {self.variable}={2 * self.now}"

    def passed_by(self, found: float | Fraction) -> bool:
        return found > self.now


JSON_BYTES = Bound("JSON_BYTES", 64 << 20, "a record has kilobytes, the index of 100,000 shards 50 MB")
MANIFEST_BYTES = Bound("MANIFEST_BYTES", 256 << 20, "a million sources with long titles")
TABLE_BYTES = Bound("TABLE_BYTES", 2 << 30, "decoded columns of a Parquet table; 10 million turns have 1 GB")
ARRAY_BYTES = Bound("ARRAY_BYTES", 4 << 30, "all arrays of an npz; the tracks of two hours have 2 GB")
MEMBER_BYTES = Bound("MEMBER_BYTES", 4 << 30, "one member of a tar, held in memory; ten minutes of video have 1 GB")
MEDIA_SECONDS = Bound("MEDIA_SECONDS", 24 * 3600, "a recording of a whole day")
MEDIA_PACKETS = Bound("MEDIA_PACKETS", 20_000_000, "packets of a source; 24 hours at 60 frames a second have 10 million")
MEDIA_STREAMS = Bound("MEDIA_STREAMS", 256, "a broadcast of many programmes")
PIXELS = Bound("PIXELS", 8192 * 5120, "a frame of video; 8K has 33 million")
PICTURE_PIXELS = Bound("PICTURE_PIXELS", 150_000_000, "a photograph; the largest sensors have 150 million")
AUDIO_RATE = Bound("AUDIO_RATE", 768_000, "samples a second; the fastest recorders")
AUDIO_CHANNELS = Bound("AUDIO_CHANNELS", 64, "channels of one sound track; a mixing desk")

BOUNDS = (
    *(JSON_BYTES, MANIFEST_BYTES, TABLE_BYTES, ARRAY_BYTES, MEMBER_BYTES),
    *(MEDIA_SECONDS, MEDIA_PACKETS, MEDIA_STREAMS, PIXELS, PICTURE_PIXELS, AUDIO_RATE, AUDIO_CHANNELS),
)


class NotJson(ValueError):
    """Bytes that are no JSON, or more of it than is read. Its text says which."""


def parse_json(data: bytes | str) -> Any:
    """Any JSON value of at most `JSON_BYTES`.

    Raises:
        NotJson: if it is none (also for numbers of thousands of digits and for nesting without end), or larger.
    """
    if JSON_BYTES.passed_by(len(data)):
        raise NotJson(f"{len(data)} bytes of JSON, at most {JSON_BYTES.now} are read; {JSON_BYTES.hint}")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise NotJson("its lists and objects are nested too deep") from error
    except ValueError as error:
        raise NotJson(str(error)[:200]) from error


def parse_object(
    data: bytes | str, where: str, *, kind: type[DyconvError] = UsageError, hint: str | None = None
) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DyconvError: of `kind`, naming `where`, if it is none.
    """
    try:
        value = parse_json(data)
    except NotJson as error:
        raise kind(f"{where} is not JSON: {error}", hint=hint) from error
    if not isinstance(value, dict):
        raise kind(f"{where}: expected a JSON object, found {str(value)[:60]!r}", hint=hint)
    return value
