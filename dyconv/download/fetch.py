"""Fetch with patience: take turns at a host, try a bounded number of times, and say in the end what it was."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from dyconv.download.errors import RETRIED, Kind, Stop, Verdict, classify
from dyconv.download.hosts import backoff_s, hold_back, wait_turn
from dyconv.errors import AuthRequired, DyconvError, Transient

if TYPE_CHECKING:
    from dyconv.download.ytdlp import Ask, Fetched

_LOG = logging.getLogger("dyconv.download")
COOKIES = "DYCONV_COOKIES"


@dataclass(frozen=True)
class Patience:
    """How often and how fast a host is asked. `max_wait_s` bounds every single wait."""

    attempts: int = 4
    interval_s: float = 1.0
    backoff_s: float = 2.0
    max_wait_s: float = 120.0


def fetch(ask: Ask, patience: Patience, folder: Path) -> Fetched | Verdict:
    """Fetch into `folder`, or the verdict that no retry helps because of the data itself.

    Raises:
        AuthRequired: the host wants a login, or refuses this machine.
        Transient: the network or the host's patience; all attempts are used up.
        DyconvError: this machine cannot write, or yt-dlp does not understand the site.
    """
    from yt_dlp.utils import YoutubeDLError

    from dyconv.download.ytdlp import download

    host = urlsplit(ask.url).netloc.lower()
    verdict = Verdict(Kind.TRANSIENT, "not tried")
    for attempt in range(1, patience.attempts + 1):
        try:
            wait_turn(host, patience.interval_s, patience.max_wait_s)
            return download(ask, folder)
        except (YoutubeDLError, Stop) as error:
            verdict = classify(error)
        _LOG.info("%s: attempt %d of %d: %s: %s", host, attempt, patience.attempts, verdict.kind, verdict.detail)
        if verdict.kind not in RETRIED:
            break
        asked_s = verdict.retry_after_s or 0.0
        if asked_s:
            hold_back(host, asked_s)
        if asked_s > patience.max_wait_s:
            break
        if attempt < patience.attempts:
            time.sleep(max(asked_s, backoff_s(attempt, patience.backoff_s, ask.url, patience.max_wait_s)))
    if verdict.kind in (Kind.GONE, Kind.NOT_MEDIA, Kind.A_LIST, Kind.TOO_LARGE, Kind.TOO_SMALL):
        return verdict
    _give_up(host, verdict, attempt)


def _give_up(host: str, verdict: Verdict, attempts: int) -> NoReturn:
    tried = f"{host} after {attempts} attempt{'s' if attempts > 1 else ''}: {verdict.detail}"
    if verdict.kind in (Kind.AUTH, Kind.FORBIDDEN):
        raise AuthRequired(
            tried,
            hint=f"log in with a browser, export its cookies (Netscape format), set {COOKIES}=/path/to/cookies.txt and run "
            "again with --retry-failed" + ("; or the host throttles: wait" if verdict.kind is Kind.FORBIDDEN else ""),
        )
    if verdict.kind is Kind.PLACE:
        raise AuthRequired(tried, hint="the host refuses this machine's location: run with --retry-failed where it does not")
    if verdict.kind is Kind.BROKEN:
        raise DyconvError(tried, hint="free or mend what it names; if yt-dlp fails to read the site: pip install -U yt-dlp")
    asked = f" (it asked to wait {verdict.retry_after_s:.0f} s)" if verdict.retry_after_s else ""
    raise Transient(tried + asked, hint="run the same command with --retry-failed later; what was fetched is kept")
