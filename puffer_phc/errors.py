"""Errors that a user can mend: each message names the thing, the value and the choices.

``scripts/train.py`` and its neighbours end with the message on one line and exit code 2; a traceback appears only with ``--debug``.
"""


class PhcError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigError(PhcError):
    """An option, a section or a combination of settings is not usable."""


class MotionFileError(PhcError):
    """A motion file is missing, damaged, or does not fit the humanoid."""


class BackendError(PhcError):
    """A physics backend is not installed, lacks its device, or refuses the model."""


class CheckpointError(PhcError):
    """A checkpoint is missing, damaged, or of another architecture."""


class TrainingError(PhcError):
    """Training cannot go on: its figures are no longer numbers."""


class LostProcessError(PhcError):
    """Another of the processes that train together is gone, or cannot be reached."""
