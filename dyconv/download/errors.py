"""What an error of a download means: gone for good, needs a login, throttled, worth another try, or ours to mend.

`classify` is a table over HTTP status, exception type and, where a host says it only in words, the words.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    GONE = "gone"  # removed, private, never there: no retry helps
    NOT_MEDIA = "not media"  # something was there, and it is no video
    A_LIST = "a list"  # a playlist or channel, not one video
    TOO_LARGE = "too large"
    TOO_SMALL = "too small"  # the picture
    AUTH = "login needed"
    PLACE = "not from here"  # refused for where this machine is
    FORBIDDEN = "forbidden"  # HTTP 403: a login is needed, or the host throttles; retries tell
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    BROKEN = "broken"  # this machine, or yt-dlp's knowledge of the site


RETRIED = frozenset({Kind.FORBIDDEN, Kind.THROTTLED, Kind.TRANSIENT})


@dataclass(frozen=True)
class Verdict:
    """What an error means. `retry_after_s` is what the host asked for, where it did."""

    kind: Kind
    detail: str
    retry_after_s: float | None = None


class Stop(Exception):
    """Raised inside a download by our own checks; carries its verdict."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(detail)
        self.verdict = Verdict(kind, detail)


_BY_STATUS = {
    401: Kind.AUTH,
    402: Kind.AUTH,
    403: Kind.FORBIDDEN,
    407: Kind.BROKEN,
    408: Kind.TRANSIENT,
    425: Kind.TRANSIENT,
    429: Kind.THROTTLED,
    451: Kind.PLACE,
}

# First match wins. The words are those of hosts and of yt-dlp's extractors.
_BY_WORDS: tuple[tuple[Kind, str], ...] = (
    (Kind.GONE, r"private video|video is private|has been made private"),
    (Kind.THROTTLED, r"rate.?limit|too many requests|try again later"),
    (Kind.TRANSIENT, r"premieres in|(live event|stream) will begin|not (yet )?started|is offline|currently live"),
    (Kind.AUTH, r"not a bot|confirm your age|age.?(restricted|gate|limit|verif)|inappropriate for some users"),
    (Kind.AUTH, r"log.?in|sign in|cookies|registered users|members.only|join this channel|subscri|purchase|password|premium"),
    (Kind.PLACE, r"geo.?restrict|(from|in) your (location|country|region)|your country|blocked it in"),
    (Kind.GONE, r"removed|deleted|terminated|suspended|no longer|does(n.t| not) exist|copyright|drm|expired"),
    (Kind.TRANSIENT, r"timed? ?out|reset|refused|temporar|more expected|content too short"),
    (
        Kind.NOT_MEDIA,
        r"unsupported url|no (video|media)( formats)? (could be )?found|there.s no video|any data blocks|file is empty",
    ),
    (Kind.NOT_MEDIA, r"requested format is not available|unusual and will be skipped"),
    (Kind.GONE, r"unavailable|not available|not found"),
)


_OF_NETWORK = "[download] Got error: "  # how yt-dlp's downloaders report what a connection did


def by_status(status: int, reason: str, retry_after_s: float | None = None) -> Verdict:
    """The meaning of an HTTP error status."""
    if status in _BY_STATUS:
        kind = _BY_STATUS[status]
    elif status >= 500:
        kind = Kind.THROTTLED if retry_after_s is not None else Kind.TRANSIENT
    else:
        kind = Kind.GONE
    return Verdict(kind, f"HTTP {status} {reason}".strip(), retry_after_s)


def by_words(text: str) -> Verdict | None:
    """The meaning of a message, or None where it says nothing that is known here."""
    plain = re.sub(r"\x1b\[[0-9;]*m|^ERROR: |\r?\[download\] Got error: ", "", text).strip()
    for kind, words in _BY_WORDS:
        if re.search(words, plain, re.IGNORECASE):
            return Verdict(kind, plain[:400])
    return Verdict(Kind.TRANSIENT, plain[:400]) if _OF_NETWORK in text else None


def classify(error: BaseException) -> Verdict:
    """The verdict on whatever yt-dlp, or a check of ours inside it, raised."""
    from yt_dlp.networking.exceptions import CertificateVerifyError, HTTPError, TransportError
    from yt_dlp.utils import ContentTooShortError, ExtractorError, GeoRestrictedError, PostProcessingError, UnsupportedError

    chain = list(_causes(error))
    for link in chain:
        if isinstance(link, Stop):
            return link.verdict
        if isinstance(link, GeoRestrictedError):
            return Verdict(Kind.PLACE, str(link.orig_msg))
        if isinstance(link, UnsupportedError):
            return Verdict(Kind.NOT_MEDIA, "a page without a video that yt-dlp can find")
        if isinstance(link, CertificateVerifyError):
            return Verdict(Kind.BROKEN, f"the host's certificate is not valid: {link}")
        if isinstance(link, HTTPError):
            return by_status(link.status, str(link.reason or ""), retry_after(link.response.headers.get("Retry-After")))
        if isinstance(link, (TransportError, ContentTooShortError, TimeoutError, ConnectionError)):
            return Verdict(Kind.TRANSIENT, str(link)[:400] or type(link).__name__)
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            return Verdict(Kind.BROKEN, f"cannot write: {link.strerror}")
        if isinstance(link, PostProcessingError):
            return Verdict(Kind.BROKEN, f"merging sound and picture failed: {link}"[:400])
    extracted: Any = next((link for link in chain if isinstance(link, ExtractorError)), None)
    text = str(extracted.orig_msg) if extracted is not None else str(error)
    return by_words(text) or Verdict(Kind.BROKEN, text[:400])


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, outermost first. Not `__context__`: it may be an error long put right."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        info = getattr(link, "exc_info", None)
        cause = getattr(link, "cause", None)
        link = (
            cause if isinstance(cause, BaseException) else (info[1] if info and info[1] is not link else None) or link.__cause__
        )


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds that a `Retry-After` header asks for (a number or an HTTP date), None where it says nothing usable."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError):
        return None
    return max(0.0, when - (time.time() if now is None else now))
