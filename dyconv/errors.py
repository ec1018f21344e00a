"""Errors that say what was expected, what was found, where, and what to do.

A `DyconvError` is written for a person: the command line prints it without a traceback. Its subclasses say who can act
on it. Whatever is about the data itself is not an error: stages yield a `Drop` (see `dyconv.records`).
"""

from __future__ import annotations

_LONGEST = 2000  # characters of an error: what it quotes may be as long as somebody's file


class DyconvError(Exception):
    """Base of all errors meant for a person. `hint` says what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = shown(message)
        self.hint = None if hint is None else shown(hint)

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint)


def shown(text: str) -> str:
    """Text as a terminal and UTF-8 can show it: half characters and control characters, which errors quote from damaged files,
    are written as escapes."""
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() or sign in "\n\t" else ascii(sign)[1:-1] for sign in text[:_LONGEST])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _rebuild(kind: type[DyconvError], message: str, hint: str | None) -> DyconvError:
    """Unpickle across processes without knowing a subclass's own signature."""
    error = kind.__new__(kind)
    DyconvError.__init__(error, message, hint=hint)
    return error


class UsageError(DyconvError):
    """The command, recipe or manifest asks for something that cannot be: the user corrects it."""

    exit_code = 2


class ManifestError(UsageError):
    """The manifest as a whole cannot be used (a bad row alone is a named drop of that source)."""


class ModelMissing(DyconvError):
    """A model's weights are not on this machine. The hint is the exact command that brings them."""


class ResourceError(DyconvError):
    """What a stage asks for can never be met by this machine or cluster."""


class MachineError(DyconvError):
    """No clip is at fault but the machine: a full disk, storage that is away. Stops the run; what is finished stays."""


class Stalled(DyconvError):
    """There is work, and for too long there was no worker to give it to."""


class StoreError(DyconvError):
    """An asset is missing, truncated or not what its record says."""


class StorageDown(MachineError):
    """The storage does not answer, refuses this machine, or is full: no clip's fault. The run stops, finished work stays.

    No `StoreError`: who can do without an object must not take a storage that is away for one that lacks it.
    """


class ShardError(DyconvError):
    """A shard does not match its index."""


class TooManyFailures(DyconvError):
    """The run stopped early because too large a share of the work failed."""


class AuthRequired(DyconvError):
    """A host refuses without a login. Failed, not dropped: cookies or a token make it work."""


class Transient(DyconvError):
    """A host throttled, stalled or broke off, and the bounded retries are used up. Worth `--retry-failed`."""
