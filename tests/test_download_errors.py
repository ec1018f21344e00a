"""What an error of a download means: the table, row by row, as yt-dlp really raises it."""

from __future__ import annotations

import errno
import io
import sys

import pytest
from yt_dlp.networking import Response
from yt_dlp.networking.exceptions import CertificateVerifyError, HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import (
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    PostProcessingError,
    UnsupportedError,
    YoutubeDLError,
)

from dyconv.download.errors import RETRIED, Kind, Stop, by_status, by_words, classify, retry_after


def http_error(status: int, headers: dict[str, str] | None = None) -> HTTPError:
    return HTTPError(Response(io.BytesIO(), "https://example.org/a", headers or {}, status))


def wrapped(error: Exception) -> DownloadError:
    """As YoutubeDL's report_error hands it on."""
    try:
        raise error
    except (YoutubeDLError, OSError, Stop) as caught:
        inner = getattr(caught, "exc_info", None)
        return DownloadError(f"ERROR: {caught}", inner if inner and inner[0] else sys.exc_info())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Kind.GONE),
        (401, Kind.AUTH),
        (402, Kind.AUTH),
        (403, Kind.FORBIDDEN),
        (404, Kind.GONE),
        (407, Kind.BROKEN),
        (408, Kind.TRANSIENT),
        (410, Kind.GONE),
        (425, Kind.TRANSIENT),
        (429, Kind.THROTTLED),
        (451, Kind.PLACE),
        (500, Kind.TRANSIENT),
        (502, Kind.TRANSIENT),
        (503, Kind.TRANSIENT),
        (504, Kind.TRANSIENT),
        (599, Kind.TRANSIENT),
    ],
)
def test_by_status(status, kind):
    assert by_status(status, "").kind is kind
    assert classify(wrapped(http_error(status))).kind is kind
    page = ExtractorError("Unable to download webpage", cause=http_error(status))
    assert classify(wrapped(page)).kind is kind, "the same when an extractor met it"


def test_a_503_that_says_when_to_come_back_is_throttling():
    verdict = classify(wrapped(http_error(503, {"Retry-After": "7"})))
    assert (verdict.kind, verdict.retry_after_s) == (Kind.THROTTLED, 7.0)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Private video. Sign in if you've been granted access to this video", Kind.GONE),
        ("Video unavailable", Kind.GONE),
        ("Video unavailable. This video has been removed by the uploader", Kind.GONE),
        ("This video is no longer available because the account has been terminated", Kind.GONE),
        ("Video unavailable. This video contains content from X, who has blocked it on copyright grounds", Kind.GONE),
        ("This video is DRM protected", Kind.GONE),
        ("Sign in to confirm your age. This video may be inappropriate for some users", Kind.AUTH),
        ("Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies", Kind.AUTH),
        ("Join this channel to get access to members-only content like this video", Kind.AUTH),
        ("This video is only available for registered users. Use --cookies", Kind.AUTH),
        ("This video is protected by a password, use the --video-password option", Kind.AUTH),
        ("Video unavailable. The uploader has not made this video available in your country", Kind.PLACE),
        ("This content isn't available, try again later. Your account has been rate-limited", Kind.THROTTLED),
        ("Premieres in 3 hours", Kind.TRANSIENT),
        ("This live event will begin in 2 days", Kind.TRANSIENT),
        ("No video formats found!", Kind.NOT_MEDIA),
        ("Requested format is not available. Use --list-formats", Kind.NOT_MEDIA),
        ("Unable to extract player response; please report this issue on https://github.com/yt-dlp", Kind.BROKEN),
    ],
)
def test_by_words(text, kind):
    assert classify(wrapped(ExtractorError(text, expected=True, video_id="removed-private-geo"))).kind is kind


def test_the_address_of_a_video_does_not_speak():
    error = ExtractorError("Something new", expected=True, video_id="private video removed", ie="Login")
    assert classify(wrapped(error)).kind is Kind.BROKEN


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TransportError("Connection reset by peer"), Kind.TRANSIENT),
        (IncompleteRead(10, 20), Kind.TRANSIENT),
        (CertificateVerifyError("self-signed"), Kind.BROKEN),
        (GeoRestrictedError("not here"), Kind.PLACE),
        (UnsupportedError("https://example.org"), Kind.NOT_MEDIA),
        (OSError(errno.ENOSPC, "No space left on device"), Kind.BROKEN),
        (PostProcessingError("Conversion failed!"), Kind.BROKEN),
        (Stop(Kind.TOO_LARGE, "large"), Kind.TOO_LARGE),
    ],
)
def test_by_type(error, kind):
    assert classify(wrapped(error)).kind is kind
    assert classify(error).kind is kind


def test_what_the_downloader_reports_by_text_alone():
    plain = DownloadError("\rERROR: [download] Got error: 5000 bytes read, 29095 more expected", (None, None, None))
    assert classify(plain).kind is Kind.TRANSIENT
    assert "Got error" not in classify(plain).detail
    unknown = DownloadError("ERROR: \r[download] Got error: something never seen", (None, None, None))
    assert classify(unknown).kind is Kind.TRANSIENT
    caused = DownloadError("ERROR: [download] Got error: HTTP Error 403: Forbidden", (None, None, None))
    caused.__cause__ = http_error(403)
    assert classify(caused).kind is Kind.FORBIDDEN


def test_an_error_that_was_put_right_is_not_the_cause():
    try:
        try:
            raise http_error(403)
        except HTTPError:
            raise Stop(Kind.A_LIST, "two videos")  # noqa: B904
    except Stop as error:
        assert classify(error).kind is Kind.A_LIST


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("0", 0.0),
        ("120", 120.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
    ],
)
def test_retry_after(header, seconds):
    assert retry_after(header, now=1445412480.0) == seconds


def test_only_what_may_pass_is_tried_again():
    assert {Kind.FORBIDDEN, Kind.THROTTLED, Kind.TRANSIENT} == RETRIED
    assert by_words("a message nobody knows") is None
