"""What can go wrong, in one tree: every error names the way out.

Each class also derives from the builtin that people already catch, so
``except KeyError`` keeps working for a missing variable. An error is built from three
sentences (what was found, what was needed, which call to make next); the class writes
the message, so that none of them can be forgotten.
"""

from __future__ import annotations

__all__ = [
    "AlignmentError",
    "AtmoError",
    "CardError",
    "ChunkError",
    "ChunkWarning",
    "ClusterError",
    "DownloadError",
    "ExtrapolationWarning",
    "FieldError",
    "FieldNotFoundError",
    "GridError",
    "JobError",
    "LevelError",
    "MissingDependencyError",
    "MissingValuesError",
    "ModelError",
    "ModelNotFoundError",
    "OptionError",
    "OutOfMemoryError",
    "TimeAxisError",
    "UnitsError",
    "UnitsWarning",
    "WeightsError",
]


class AtmoError(Exception):
    """Base class of every error that xatmo raises on purpose.

    Parameters
    ----------
    problem : str
        One sentence: what went wrong, with the names the user knows.
    found, needed, hint : str
        What the input holds, what the call needs, and the next call to make.
    """

    def __init__(self, problem: str, *, found: str, needed: str, hint: str) -> None:
        self.problem, self.found, self.needed, self.hint = problem, found, needed, hint
        super().__init__(problem)

    def __str__(self) -> str:
        # KeyError would print the repr of its argument: one text for all classes.
        return (
            f"{self.problem}\n  found:  {self.found}"
            f"\n  needed: {self.needed}\n  try:    {self.hint}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments have to be handed over by hand between processes.
        return _rebuild, (
            type(self),
            self.problem,
            self.found,
            self.needed,
            self.hint,
        )


def _rebuild(
    cls: type[AtmoError], problem: str, found: str, needed: str, hint: str
) -> AtmoError:
    return cls(problem, found=found, needed=needed, hint=hint)


class FieldError(AtmoError):
    """The data are not what a model can read."""


class FieldNotFoundError(FieldError, KeyError):
    """A variable or axis is missing, or several candidates claim to be it."""

    __str__ = AtmoError.__str__


class UnitsError(FieldError, ValueError):
    """Units are wrong, unreadable, or have no exact conversion."""


class GridError(FieldError, ValueError):
    """The grid is too small, too coarse, too fine, or of a kind no model reads."""


class LevelError(FieldError, ValueError):
    """The vertical level is not one the model knows, or is ambiguous."""


class TimeAxisError(FieldError, ValueError):
    """There is no time axis, or it cannot serve (missing, duplicated, unordered)."""


class MissingValuesError(FieldError, ValueError):
    """NaN or infinite values where the model needs numbers."""


class AlignmentError(FieldError, ValueError):
    """Two objects do not share the coordinates they are compared on."""


class ChunkError(FieldError, ValueError):
    """A dimension is chunked although the network needs it whole."""


class ModelError(AtmoError):
    """Something about a released model."""


class ModelNotFoundError(ModelError, KeyError):
    """No model of that name, or none with the wanted capability."""

    __str__ = AtmoError.__str__


class CardError(ModelError, ValueError):
    """A ``card.toml`` breaks the schema."""


class WeightsError(ModelError, ValueError):
    """A weight file is damaged or does not belong to its card."""


class DownloadError(ModelError, ConnectionError):
    """Weights could not be fetched."""


class OptionError(AtmoError, ValueError):
    """An argument or option has a value it cannot have."""


class OutOfMemoryError(AtmoError, MemoryError):
    """Even a batch of one does not fit into the device's memory."""


class ClusterError(AtmoError, RuntimeError):
    """Workers died, did not come, or their scheduler does not answer."""


class JobError(AtmoError, RuntimeError):
    """A batch job cannot begin, go on or end as it was asked to."""


class MissingDependencyError(AtmoError, ImportError):
    """An optional package is not installed."""


class ExtrapolationWarning(UserWarning):
    """The model is used outside what it was trained on."""


class ChunkWarning(UserWarning):
    """Chunks are so small that they cost more than what is computed with them."""


class UnitsWarning(UserWarning):
    """A variable carries no units; the canonical ones were assumed."""
