"""Download: a source's row becomes its media file and what the host said of it.

A row that names a `partner_url` is two files, fetched under the same rules and joined (`dyconv.download.join`);
`measures["partner_cut_s"]` says how much longer one of them was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from dyconv.download.errors import Kind, Verdict
from dyconv.download.licences import OPEN_LICENCES, refusal
from dyconv.errors import DyconvError, UsageError
from dyconv.manifest import local_path
from dyconv.records import Clip, Drop, DropReason, Key, dump
from dyconv.stages.base import Files, Limit, Resources, Stage

if TYPE_CHECKING:
    from dyconv.download.look import Look

_REASONS = {
    Kind.GONE: DropReason.UNAVAILABLE,
    Kind.NOT_MEDIA: DropReason.UNREADABLE,
    Kind.A_LIST: DropReason.BAD_ROW,
    Kind.TOO_LARGE: DropReason.TOO_LARGE,
    Kind.TOO_SMALL: DropReason.FACE_TOO_SMALL,
}
# How it is fetched, which changes nothing about what is fetched: a slower host must not invalidate a dataset.
_MANNERS = frozenset({"timeout_s", "attempts", "per_host_interval_s", "backoff_s", "max_wait_s", "cookies"})

_Body = tuple[Path, dict[str, Any]]  # a fetched file, and what its host said of it


@dataclass(frozen=True)
class Download(Stage):
    """Fetches one video with yt-dlp, or copies a local file.

    Attributes:
        licences: patterns of the licences taken (`dyconv.download.licences`); a source without a licence never is.
        allow_local: whether `file://` sources are taken.
        max_height: pixels of the picture's shorter side: the best offered that is not above it (the smallest where all are).
        min_height: drop sources whose picture's shorter side is below it: no face in it can be large enough. 0 is any.
        max_bytes: drop larger ones. 0 is any.
        timeout_s: seconds without an answer or a byte before an attempt is given up.
        attempts: how often it is tried in all; only what may pass is tried again.
        per_host_interval_s: seconds between two downloads from one host, over all workers of one machine.
        backoff_s: first pause after a failed attempt; it doubles, with a little jitter.
        max_wait_s: the longest single pause; a host that asks for more (Retry-After) is left for `--retry-failed`.
        cookies: a cookies file in Netscape format; the variable DYCONV_COOKIES where not given.
    """

    name: ClassVar[str] = "download"
    gives: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA, Key.INFO})
    resources: ClassVar[Resources] = Resources(cpus=0.25)
    limit: ClassVar[Limit] = Limit(seconds=6 * 3600.0)  # how long the media is, nobody knows before

    licences: tuple[str, ...] = OPEN_LICENCES
    allow_local: bool = False
    max_height: int = 1080
    min_height: int = 0
    max_bytes: int = 8 << 30
    timeout_s: float = 30.0
    attempts: int = 4
    per_host_interval_s: float = 1.0
    backoff_s: float = 2.0
    max_wait_s: float = 120.0
    cookies: str | None = None

    def config(self) -> dict[str, Any]:
        """Fields that decide what comes out. Manners of fetching and the cookies' path are not among them."""
        return {name: value for name, value in super().config().items() if name not in _MANNERS}

    def setup(self) -> None:
        from dyconv.download.partial import sweep

        self._cookies()
        sweep()

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        """Yield the clip with MEDIA, INFO and its span, or the drop.

        Raises:
            AuthRequired, Transient, DyconvError: see `dyconv.download.fetch.fetch`.
        """
        source = clip.source
        if refused := refusal(source.licence, self.licences):
            yield Drop(clip, DropReason.LICENCE, refused)
            return
        first = self._fetched(clip, files, source.url, "first")
        if source.partner_url is None or isinstance(first, Drop):
            yield first if isinstance(first, Drop) else self._finish(clip, files, *first)
            return
        second = self._fetched(clip, files, source.partner_url, "partner")
        yield second if isinstance(second, Drop) else self._joined(clip, files, first, second)

    def _fetched(self, clip: Clip, files: Files, url: str, name: str) -> _Body | Drop:
        """The file of a URL, in the scratch folder under that name, and what its host said of it."""
        path = local_path(url)
        if path is not None:
            return self._local(clip, path, files.scratch / name)
        if urlsplit(url).scheme in ("http", "https"):
            return self._remote(clip, url, files.scratch / name)
        return Drop(clip, DropReason.BAD_ROW, f"expected an http, https or file url, found {url[:120]!r}")

    def _local(self, clip: Clip, path: Path, copy: Path) -> _Body | Drop:
        if not self.allow_local:
            return Drop(clip, DropReason.BAD_ROW, f"{path} is local, and this recipe takes none (is https:// missing?)")
        if not path.exists():
            return Drop(clip, DropReason.UNAVAILABLE, f"there is no file {path}")
        if not path.is_file():
            return Drop(clip, DropReason.UNREADABLE, f"expected a media file, {path} is not a plain file")
        if self.max_bytes and path.stat().st_size > self.max_bytes:
            return Drop(clip, DropReason.TOO_LARGE, f"{path.stat().st_size} bytes, the recipe takes at most {self.max_bytes}")
        try:
            shutil.copyfile(path, copy)
        except OSError as error:
            raise DyconvError(
                f"cannot copy {path}: {error.strerror}", hint="check who may read it and the free disk"
            ) from error
        return copy, {"extractor": "local"}

    def _remote(self, clip: Clip, url: str, body: Path) -> _Body | Drop:
        from dyconv.download.fetch import Patience, fetch
        from dyconv.download.info import describe
        from dyconv.download.partial import discard, partial_folder
        from dyconv.download.ytdlp import Ask

        ask = Ask(
            url=url,
            language=clip.source.language,
            max_height=self.max_height,
            min_height=self.min_height,
            max_bytes=self.max_bytes,
            timeout_s=self.timeout_s,
            cookies=self._cookies(),
        )
        patience = Patience(self.attempts, self.per_host_interval_s, self.backoff_s, self.max_wait_s)
        with partial_folder(ask.choice) as folder:
            got = fetch(ask, patience, folder)
            if isinstance(got, Verdict):
                discard(folder)
                return Drop(clip, _REASONS[got.kind], got.detail)
            shutil.move(got.path, body)
            discard(folder)
        return body, describe(got.info)

    def _joined(self, clip: Clip, files: Files, first: _Body, second: _Body) -> Clip | Drop:
        from dyconv.download.join import NotJoinable, join

        both = files.scratch / "joined.mkv"
        try:
            cut = join(first[0], second[0], both, max_height=self.max_height, language=clip.source.language)
        except NotJoinable as error:
            return Drop(clip, error.reason, error.detail)
        done = self._finish(clip, files, both, {**first[1], "partner": second[1]})
        return done if isinstance(done, Drop) else done.measured(partner_cut_s=round(float(cut), 3))

    def _finish(self, clip: Clip, files: Files, body: Path, info: dict[str, Any]) -> Clip | Drop:
        """Look at the body and hand it over under its proper name."""
        from dyconv.download.look import NotMedia, look

        try:
            seen = look(body)
        except NotMedia as error:
            return Drop(clip, DropReason.UNREADABLE, str(error))
        if (side := seen.short_side) is not None and side < self.min_height:
            return Drop(clip, DropReason.FACE_TOO_SMALL, f"the picture has {side} lines, the recipe asks for {self.min_height}")
        media = files.new(clip, Key.MEDIA, seen.suffix)
        body.rename(media)
        about = files.new(clip, Key.INFO)
        about.write_bytes(dump({**info, **_facts(seen)}))
        return replace(files.add(clip, (Key.MEDIA, media), (Key.INFO, about)), span=seen.span)

    def _cookies(self) -> str | None:
        """Text of the cookies file.

        Raises:
            UsageError: if one is named and cannot be read.
        """
        from dyconv.download.fetch import COOKIES

        name = self.cookies or os.environ.get(COOKIES)
        if not name:
            return None
        try:
            return Path(name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the cookies file {name}", hint=f"named by the recipe or by {COOKIES}") from error


def _facts(seen: Look) -> dict[str, Any]:
    """What the file itself says, exact times as text."""
    video = seen.info.video
    return {
        "container": seen.info.format,
        "span": seen.span.to_json(),
        "video": {"codec": video.codec, "width": video.width, "height": video.height} if video else None,
        "audio": [
            {"codec": track.codec, "rate": track.rate, "channels": track.channels, "language": track.language}
            for track in seen.info.audio
        ],
    }
