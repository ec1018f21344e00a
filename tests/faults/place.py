"""Where trials are played: media made once, jobs, and what each gives when nobody disturbs it."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from tests.faults import look, media
from tests.faults.driver import Driver, Job, end_all
from tests.s3server import S3Server, in_environment, s3_server

FILM_RECIPE = """
from tests.faults.stages import FILMS
RECIPE = FILMS
"""


class Place:
    """A folder with media, manifests and undisturbed runs. Made once for many trials."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._undisturbed: dict[str, dict[str, str]] = {}
        self.undisturbed_s: dict[str, float] = {}
        self._open = ExitStack()

    def close(self) -> None:
        self._open.close()

    @cached_property
    def talks(self) -> Path:
        """The folder with the parts of the composed conversation, as files talk.mp4 and more.mp4."""
        folder = self.folder / "talks"
        if not (folder / "made").is_file():
            media.compose(folder)
            (folder / "made").touch()
        return folder

    @cached_property
    def films(self) -> Path:
        """The folder with two tiny films without people: film-a.mp4 (six shots of 2 s) and film-b.mp4 (three)."""
        folder = self.folder / "films"
        if not (folder / "made").is_file():
            media.film(folder / "film-a.mp4", 12)
            media.film(folder / "film-b.mp4", 6)
            (folder / "made").touch()
        return folder

    @cached_property
    def s3(self) -> S3Server:
        """An S3 server, which this process and all it starts can find."""
        server = self._open.enter_context(s3_server())
        self._open.enter_context(in_environment(server.environment))
        return server

    @cached_property
    def demo(self) -> Job:
        """The `demo` recipe, every stage and model, over two short conversations and a file that is not there."""
        return self.job("demo", "demo", self.talks, ("talk", "more", "gone"), "demo-local")

    @cached_property
    def cuts(self) -> Job:
        """The chain without people: download, scenes, normalize, clips, over the films and a file that is not there."""
        return self.job("cuts", self.recipe("films", FILM_RECIPE), self.films, ("film-a", "film-b", "gone"), "own")

    def job(self, name: str, recipe: str, folder: Path, sources: tuple[str, ...], licence: str, code: int = 0) -> Job:
        manifest = self.folder / f"{name}.csv"
        rows = [f"{source},{(folder / source).as_uri()}.mp4,{licence}" for source in sources]
        manifest.write_text("\n".join(["id,url,licence", *rows]) + "\n")
        return Job(name, recipe, manifest, sources, code=code)

    def recipe(self, name: str, text: str) -> str:
        """Write a recipe file; gives its path."""
        path = self.folder / f"recipe_{name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}.py"
        path.write_text(text)
        return str(path)

    def undisturbed(self, job: Job) -> dict[str, str]:
        """What the job makes when nothing happens, by path; run once."""
        if job.name not in self._undisturbed:
            import time

            folder = self.folder / "undisturbed" / job.name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            started = time.monotonic()
            driver = Driver.start(job, str(folder / "out"), folder / "driver", str(folder))
            try:
                code = driver.wait(300)
            finally:
                end_all(str(folder))
            assert code == job.code, f"the undisturbed run ended with {code}:\n{driver.said()}"
            self.undisturbed_s[job.name] = time.monotonic() - started
            self._undisturbed[job.name] = look.made(folder / "out")
        return self._undisturbed[job.name]

    def folder_of(self, job: Job) -> Path:
        """The output folder of the undisturbed run."""
        self.undisturbed(job)
        return self.folder / "undisturbed" / job.name / "out"
