"""yt-dlp, held short: one video, no plugins, no configuration files, and no external programs but the ffmpeg that we bring.

One exception: where deno is installed, yt-dlp runs a site's player script in it, without permissions (YouTube needs it).
Imports yt-dlp at its top; import this module only inside functions.
"""

from __future__ import annotations

import io
import logging
import re
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import yt_dlp.globals
from yt_dlp import YoutubeDL
from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import HTTPError, network_exceptions
from yt_dlp.utils import MEDIA_EXTENSIONS, DownloadError, determine_protocol, parse_http_range

from dyconv.download.errors import Kind, Stop
from dyconv.download.partial import PartialFile, Whole
from dyconv.errors import UsageError

_LOG = logging.getLogger("dyconv.download")
_PROTOCOLS = frozenset({"http", "https", "m3u8", "m3u8_native", "http_dash_segments"})
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
_EXTENSIONS = frozenset([*MEDIA_EXTENSIONS.video, *MEDIA_EXTENSIONS.audio])
_BY_TEXT = "[download] Got error: "
_SLOW_WINDOW_S, _SLOW_BYTES_S = 60.0, 1024.0


@dataclass(frozen=True)
class Ask:
    """What to fetch, and how.

    Attributes:
        language: BCP 47 tag of the sound track wanted; None for what the host marks as the original.
        max_height: of the pictures offered, the largest whose shorter side is not above this, in pixels; 0 is any.
        min_height: stop where no picture offered has a shorter side of this many pixels.
        max_bytes: stop above this size; 0 is any.
        timeout_s: of one connection or one read.
        cookies: text of a cookies file in Netscape format.
    """

    url: str
    language: str | None = None
    max_height: int = 0
    min_height: int = 0
    max_bytes: int = 0
    timeout_s: float = 30.0
    cookies: str | None = None

    @property
    def choice(self) -> str:
        """Everything that the bytes depend on."""
        return f"{self.url} {self.language} {self.max_height}"


@dataclass(frozen=True)
class Fetched:
    """A finished file in the partial folder, and yt-dlp's description of it."""

    path: Path
    info: dict[str, Any]


def download(ask: Ask, folder: Path) -> Fetched:
    """One attempt. Partial files in `folder` are continued where the host still has the same.

    Raises:
        Stop: a check of ours said no.
        yt_dlp.utils.YoutubeDLError: yt-dlp did; see `dyconv.download.errors.classify`.
    """
    yt_dlp.globals.plugin_dirs.value = []
    yt_dlp.globals.all_plugins_loaded.value = True
    with Downloader(ask, folder) as ydl:
        try:
            info = ydl.extract_info(ask.url, download=True)
        except DownloadError as error:
            # The downloader's own retries report the network's error by its text alone: give it back its cause.
            if _BY_TEXT in str(error) and ydl.network_error:
                raise error from ydl.network_error
            raise
    done = (info or {}).get("requested_downloads") or []
    path = Path(done[0].get("filepath") or "") if done else None
    if path is None or path.parent != folder or not path.is_file():
        raise Stop(Kind.NOT_MEDIA, "expected one video, yt-dlp found nothing to fetch")
    return Fetched(path, info)


class Downloader(YoutubeDL):
    """YoutubeDL with our checks at its seams: what is fetched, how large it is, and which file a rest belongs to."""

    def __init__(self, ask: Ask, folder: Path) -> None:
        self._ask = ask
        self._file: PartialFile | None = None
        self._window: tuple[float, int] | None = None  # when it began, with how many bytes
        self.network_error: BaseException | None = None
        super().__init__(_options(ask, folder, self._watch))

    def process_ie_result(self, ie_result: Any, download: bool = True, extra_info: Any = None) -> Any:
        """As in YoutubeDL, but a list of several videos is refused, and one of a single video is that video."""
        if ie_result.get("_type") in ("playlist", "multi_video"):
            entries = ie_result.get("entries") or []
            first = entries.getslice(0, 2) if hasattr(entries, "getslice") else list(islice(entries, 2))
            if len(first) != 1:
                raise Stop(Kind.A_LIST, "the url is a list of videos, expected one: give each video its own row")
            return self.process_ie_result(first[0], download, extra_info)
        return super().process_ie_result(ie_result, download, extra_info)

    def process_video_result(self, info_dict: Any, download: bool = True) -> Any:
        """As in YoutubeDL, after leaving out the formats that are not for us."""
        if info_dict.get("is_live") or info_dict.get("live_status") in ("is_live", "is_upcoming", "post_live"):
            raise Stop(Kind.TRANSIENT, "a live broadcast that has not ended: try again when it has")
        formats = info_dict.get("formats")
        for form in formats if formats is not None else [info_dict]:
            if form.get("ext") not in _EXTENSIONS:
                form["ext"] = "unknown_video"  # its container is found out from the bytes
        if formats:
            usable = [form for form in formats if form.get("url") and determine_protocol(form) in _PROTOCOLS]
            if not usable:
                raise Stop(Kind.NOT_MEDIA, "the host offers no media over http(s)")
            _check_height(usable, self._ask.min_height)
            info_dict["formats"] = usable
        return super().process_video_result(info_dict, download)

    def dl(self, name: str, info: Any, subtitle: bool = False, test: bool = False) -> Any:
        """As in YoutubeDL, remembering which file the requests inside belong to."""
        whole_file = determine_protocol(info) in ("http", "https") and not info.get("fragments") and not test
        self._file = PartialFile(Path(name)) if whole_file else None
        try:
            return super().dl(name, info, subtitle, test)
        finally:
            self._file = None

    def urlopen(self, req: Any) -> Response:
        """As in YoutubeDL. A rest is asked for only of the same file (`If-Range`), and believed only if it is."""
        request = Request(req) if isinstance(req, str) else req
        file = self._file
        begin = parse_http_range(request.headers.get("Range"))[0] or 0
        if file and begin and file.condition:
            request.headers["If-Range"] = file.condition
        try:
            answer: Response = super().urlopen(request)
        except network_exceptions as error:
            self.network_error = error
            if file and begin and isinstance(error, HTTPError) and error.status == 416:
                file.remove()
                raise Stop(Kind.TRANSIENT, "more bytes are here than the host has; beginning again") from error
            raise
        self.network_error = None
        if file:
            self._check_answer(file, begin, answer)
        return answer

    def _check_answer(self, file: PartialFile, begin: int, answer: Response) -> None:
        whole = Whole.of(answer.status, answer.headers)
        if self._ask.max_bytes and (whole.length or 0) > self._ask.max_bytes:
            raise Stop(Kind.TOO_LARGE, f"{whole.length} bytes, the recipe takes at most {self._ask.max_bytes}")
        if whole.length == 0:
            raise Stop(Kind.NOT_MEDIA, "expected media, found zero bytes")
        file.check(answer.status == 206 and begin > 0, whole)

    def _watch(self, progress: dict[str, Any]) -> None:
        """Progress hook: stop what grows too large or drips for ever."""
        done = progress.get("downloaded_bytes") or 0
        if self._ask.max_bytes and done > self._ask.max_bytes:
            raise Stop(Kind.TOO_LARGE, f"more than the {self._ask.max_bytes} bytes that the recipe takes")
        now = time.monotonic()
        begun, before = self._window or (now, done)
        if now - begun > _SLOW_WINDOW_S and 0 <= done - before < _SLOW_BYTES_S * (now - begun):
            raise Stop(Kind.TRANSIENT, f"slower than {_SLOW_BYTES_S:.0f} bytes a second over {_SLOW_WINDOW_S:.0f} s")
        restart = self._window is None or done < before or now - begun > _SLOW_WINDOW_S
        self._window = (now, done) if restart else self._window


class _Quiet:
    """yt-dlp's messages, to our log."""

    def debug(self, message: str) -> None:
        _LOG.debug(message)

    warning = error = debug


def _check_height(formats: list[dict[str, Any]], min_height: int) -> None:
    sides = [min(form["width"], form["height"]) for form in formats if form.get("width") and form.get("height")]
    unknown = any(form.get("vcodec") != "none" and not form.get("height") for form in formats)
    if sides and not unknown and max(sides) < min_height:
        raise Stop(Kind.TOO_SMALL, f"the largest picture offered has {max(sides)} lines, the recipe asks for {min_height}")


def _format(language: str | None) -> str:
    """Format selection: the best picture with the sound track of that language, else the one the host prefers."""
    plain = "bv*+ba/b/bv*/ba"
    if not language or not _LANGUAGE.fullmatch(language):
        return plain
    tags = [f"={language}", f"={language.split('-')[0]}", f"^={language.split('-')[0]}-"]
    wanted = [f"bv+ba[language{tag}]" for tag in tags] + [f"b[language{tag}]" for tag in tags]
    return "/".join([*wanted, plain])


def _options(ask: Ask, folder: Path, watch: Any) -> dict[str, Any]:
    if ask.cookies is not None and not ask.cookies.lstrip().startswith("#"):
        raise UsageError("the cookies file is not in Netscape format", hint="its first line is # Netscape HTTP Cookie File")
    return {
        "quiet": True,
        "noprogress": True,
        "logger": _Quiet(),
        "cachedir": False,
        "noplaylist": True,
        "format": _format(ask.language),
        # Original language first ("lang" is the extractor's preference), then size; no HDR, which nothing here maps.
        "format_sort": ["lang", *([f"res:{ask.max_height}"] if ask.max_height else []), "hdr:sdr"],
        "merge_output_format": "mp4/mkv",
        "outtmpl": {"default": "media-%(format_id)s.%(ext)s"},
        "paths": {"home": str(folder)},
        "restrictfilenames": True,
        "trim_file_name": 60,
        "continuedl": True,
        "overwrites": None,
        "updatetime": False,
        "fixup": "never",
        # Our own policy retries: it knows the host's queue and what an error means.
        "retries": 0,
        "fragment_retries": 0,
        "extractor_retries": 0,
        "file_access_retries": 0,
        "skip_unavailable_fragments": False,
        "socket_timeout": ask.timeout_s,
        "external_downloader": {"default": "native"},
        "hls_prefer_native": True,
        "ffmpeg_location": imageio_ffmpeg.get_ffmpeg_exe(),
        "postprocessor_args": {"merger+ffmpeg_o": ["-fflags", "+bitexact"]},
        "progress_hooks": [watch],
        "cookiefile": io.StringIO(ask.cookies) if ask.cookies else None,  # a copy: yt-dlp writes into its cookie file
        "enable_file_urls": False,
        "geo_bypass": False,
        "check_formats": False,
    }
