"""Releases in a dataset repository of the Hugging Face Hub: one commit and one tag a version, `hf://datasets/OWNER/NAME`.

The repository's main branch holds the latest version at its root, where the Hub looks for README.md and croissant.json; every
version stays under its tag, `v1.0.0`. `HF_ENDPOINT` and the login are those of huggingface_hub.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dyconv.errors import AuthRequired, StoreError, UsageError
from dyconv.release.checksums import files_of
from dyconv.release.model import is_version, version_key
from dyconv.release.target import Target, transport_errors
from dyconv.store import Store

_TO = re.compile(r"hf://datasets/(?P<repo>[A-Za-z0-9._-]+/[A-Za-z0-9._-]+)/?")


class HubTarget(Target):
    """A dataset repository; it is made, private, where it is not there."""

    def __init__(self, to: str) -> None:
        found = _TO.fullmatch(to)
        if found is None:
            raise UsageError(f"expected hf://datasets/OWNER/NAME, found {to[:120]!r}")
        super().__init__(to.rstrip("/"))
        self.repo = found["repo"]

    @property
    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi()

    def where(self, version: str) -> str:
        return f"hf://datasets/{self.repo}@v{version}"

    def store(self, version: str) -> Store:
        return Store(self.where(version))

    def versions(self) -> list[str]:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            refs = self._api.list_repo_refs(self.repo, repo_type="dataset")
        except RepositoryNotFoundError:
            return []
        except transport_errors() as error:
            raise self._failed(error) from error
        names = [tag.name.removeprefix("v") for tag in refs.tags if tag.name.startswith("v")]
        return sorted((name for name in names if is_version(name)), key=version_key)

    def refuse_existing(self, version: str) -> None:
        """Raises UsageError if the version is there, or a later one: the main branch holds the latest."""
        super().refuse_existing(version)
        there = self.versions()
        if there and version_key(there[-1]) > version_key(version):
            raise UsageError(f"{self.to} has version {there[-1]} already", hint="give a version after it")

    def publish(self, staging: Path, version: str) -> None:
        """One commit of all files, in which files of the version before that are no more are deleted, then the tag.

        What was uploaded before a broken-off try is not sent again: the Hub keeps large files by their hash.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        files = files_of(staging)
        try:
            api = self._api
            api.create_repo(self.repo, repo_type="dataset", private=True, exist_ok=True)
            there = set(api.list_repo_files(self.repo, repo_type="dataset")) - {".gitattributes"}
            operations: list[Any] = [
                CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(staging / name)) for name in files
            ]
            operations += [CommitOperationDelete(path_in_repo=name) for name in sorted(there - set(files))]
            made = api.create_commit(
                self.repo, operations, commit_message=f"Version {version}", repo_type="dataset", num_threads=2
            )
            api.create_tag(self.repo, tag=f"v{version}", revision=made.oid, repo_type="dataset")
        except transport_errors(ValueError, RuntimeError) as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> StoreError | AuthRequired:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return AuthRequired(f"{self.to}: the Hub refuses: {error}", hint="log in with `hf auth login`, or set HF_TOKEN")
        cause = f" ({error.__cause__})" if error.__cause__ else ""  # an upload's own error is wrapped by its thread's
        return StoreError(
            f"{self.to}: {error}{cause}", hint="the same command goes on from there; what is up is not sent again"
        )
