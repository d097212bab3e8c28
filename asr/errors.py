"""The exceptions a user may see. Each carries the exit code of the command that ends with it."""


class AsrError(Exception):
    """A fault told to the user in one sentence, without a traceback."""

    exit_code = 1


class UsageError(AsrError):
    """A wrong option, key, value or combination of them."""

    exit_code = 2


class DataError(AsrError):
    """Recordings, transcripts or manifests that cannot be used."""

    exit_code = 3


class ModelError(AsrError):
    """A checkpoint or model folder that is damaged, foreign or does not fit."""

    exit_code = 4


class ResourceError(AsrError):
    """Out of disk, memory or device."""

    exit_code = 5
