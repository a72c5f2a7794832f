"""All errors of the package. Each message is one line that says what is wrong and what to do.

Wrong arguments raise Python's own ValueError or TypeError.
"""


class VideoSSPError(Exception):
    """The base class of all errors of this package."""


class DataError(VideoSSPError, ValueError):
    """A video or data set that cannot be found, decoded or understood. The message names the file."""


class NoVideoError(DataError):
    """A file without a video stream, or a file or folder without a single frame."""


class TruncatedError(DataError):
    """A file that ends too early."""


class WeightsError(VideoSSPError, ValueError):
    """Weights or an adapter that cannot be found or read, or that do not fit."""


class DivergedError(VideoSSPError, RuntimeError):
    """Training stopped: too many steps, or a validation, with values that are not finite."""


class ExportError(VideoSSPError, RuntimeError):
    """A classifier that a format cannot hold, or an exported file that is not the same model."""


class WorkerLostError(VideoSSPError, RuntimeError):
    """A worker or peer process died or stopped responding."""


class OutOfMemoryError(VideoSSPError, RuntimeError):
    """Too little memory. The message names the settings that need less."""


class VideoSSPWarning(UserWarning):
    """A result that may mislead, such as random weights or an epoch selected on the test split."""
