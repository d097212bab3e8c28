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


def is_out_of_memory(error: BaseException) -> bool:
    """MemoryError, or that of torch or its oneDNN: told by class name and words, so that torch need not be loaded."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    words = ("can't allocate memory", "not enough memory", "CUDA out of memory", "bad_alloc", "could not create a memory")
    no_room = text == "could not create a primitive"  # with more behind it, oneDNN means something else
    return isinstance(error, RuntimeError) and (no_room or any(word in text for word in words))
