"""The pass over the command line that all commands share, and the way every command ends.

It runs before Hydra and before torch. Words without `key=`, and all words after `--`, are files. Values of path keys never
meet Hydra's grammar, which refuses spaces, `=`, `#`, quotes and umlauts. Help is printed without loading anything, and
every fault becomes one sentence and an exit code: 0 fine, 1 internal fault, 2 usage, 3 data, 4 model, 5 out of disk, memory
or device, 130, 138 and 143 stopped by SIGINT, SIGUSR1 and SIGTERM, 141 the reader of our output has gone.
"""

import difflib
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from asr import __version__
from asr.errors import AsrError, ResourceError, UsageError, is_out_of_memory

INTERNAL_FAULT = 1
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
READER_GONE = 141
FLAGS = ("--help", "--version", "--debug")
#: System errors that mean the machine has run out of something or cannot store, whatever the command was doing.
EXHAUSTED = {
    getattr(errno, name, -1)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "ENOMEM", "EMFILE", "ENFILE", "EIO", "ENAMETOOLONG")
}
_KEY = re.compile(r"([^\W\d][\w.-]*)=")
_KEY_WHERE_NO_FILES = re.compile(r"([^=+~-][^=]*)=")
_HYDRA_PREFIX = re.compile(r"(\+\+?|~)(?=[^\W\d][\w./@-]*=)")


@dataclass(frozen=True)
class Arguments:
    """A command line, taken apart.

    overrides: the `key=value` words for Hydra, in order. paths: key -> path as typed, with a leading `~/` expanded.
    files: the other words, in order. help, debug: whether `--help` or `--debug` stood before `--`.
    """

    overrides: list[str] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    help: bool = False
    debug: bool = False


def split_arguments(
    argv: Sequence[str], *, path_keys: Iterable[str] = (), allow_files: bool = False, keys: Iterable[str] = ()
) -> Arguments:
    """Take a command line apart without knowing anything but the names of its path keys.

    A repeated key keeps its last value. `keys` are known keys, or whole words such as `experiment=digits`, that a message can
    offer. Raises UsageError for an unknown
    flag, for Hydra's `+key=` and `~key=`, and for a word without `key=` where the command takes no files.
    """
    path_keys = frozenset(path_keys)
    known = sorted({*keys, *path_keys})
    found = Arguments()
    flags = set()
    words = list(argv)
    options, after = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    for word in options:
        match = (_KEY if allow_files else _KEY_WHERE_NO_FILES).match(word)
        if word in ("-h", *FLAGS):
            flags.add(word)
        elif match and match[1] in path_keys:
            found.paths[match[1]] = expand_home(word[match.end() :])
        elif match:
            found.overrides.append(word)
        elif prefix := _HYDRA_PREFIX.match(word):
            bare = word[prefix.end() :]
            advice = f"write {bare}" if prefix[1] != "~" else "no key can be removed, only set to another value"
            raise UsageError(f"'{word}': keys are fixed and take no '{prefix[1]}': {advice}")
        elif len(word) > 1 and word.startswith("-"):
            raise UsageError(_unknown_flag(word, known, allow_files))
        else:
            found.files.append(word)
    found.files.extend(after)
    if found.files and not allow_files and not flags & {"-h", "--help"}:
        raise UsageError(_not_a_file(found.files[0], known))
    return Arguments(found.overrides, found.paths, found.files, bool(flags & {"-h", "--help"}), "--debug" in flags)


def expand_home(path: str) -> str:
    """`~` and `~/...` become the home folder, as most shells do for a word of its own but not after `key=`."""
    return os.path.expanduser(path) if path == "~" or path.startswith("~/") else path


def closest(word: str, known: Iterable[str], *, least: float = 0.0) -> str:
    """The known name most like `word`; `a.b_c` also matches by `b_c` or `bc`, and `a=b` by `b`. Empty when none is.

    `least` (0..1) is the likeness a name must have to count; by default the best one counts however far it is.

    Several equally good names (`layers` in two groups, say) are joined by ' or '.
    """

    def likeness(left: str, right: str) -> float:
        return difflib.SequenceMatcher(None, left.lower(), right.lower(), autojunk=False).ratio()

    def score(name: str) -> float:
        key, equals, value = name.partition("=")
        if equals:
            return max(likeness(word, name), likeness(word, value))
        typed, last = word.rpartition(".")[2], key.rpartition(".")[2]
        initials = "".join(part[:1] for part in last.split("_"))
        return max(likeness(word, name), 0.95 * likeness(typed, last), 0.94 * (typed == initials and len(initials) > 1))

    scores = {name: score(name) for name in known}
    best = max(scores.values(), default=0.0)
    return " or ".join(sorted(name for name, value in scores.items() if value == best >= least)[:3])


def _unknown_flag(word: str, known: list[str], allow_files: bool) -> str:
    name, equals, value = word.lstrip("-").partition("=")
    name = name.replace("-", "_")
    flag = closest(f"--{name}", FLAGS, least=0.75)
    key = closest(name, [key for key in known if "=" not in key], least=0.7)
    if word in ("-m", "--multirun"):
        advice = (
            "a command runs one configuration; a loop of the shell goes on when one of several fails: "
            "for s in 1 2 3; do asr-train seed=$s run_dir=runs/$s ...; done"
        )
    elif flag:
        advice = f"did you mean {flag}"
    elif key:
        advice = f"options are written key=value: did you mean {_with_values(key, value if equals else 'VALUE')}"
    else:
        advice = "options are written key=value, and --help lists them"
    return f"unknown option '{word}': {advice}" + ("; a file whose name starts with '-' goes after --" if allow_files else "")


def _with_values(keys: str, value: str) -> str:
    """`a or b` as `a=value or b=value`."""
    return " or ".join(f"{key}={value}" for key in keys.split(" or "))


def _not_a_file(word: str, known: list[str]) -> str:
    if word in {name.partition("=")[0] for name in known}:
        return f"'{word}' has no value: write {word}=VALUE, without spaces around '='"
    best = closest(word, known, least=0.6)
    hint = f"did you mean {best if '=' in best else _with_values(best, '...')}" if best else "everything is written key=value"
    return f"'{word}' is no key=value, and this command takes no files: {hint}; a value with spaces goes in quotes"


def run_command(
    main: Callable[[list[str]], int],
    argv: Sequence[str] | None = None,
    *,
    usage: str | Callable[[], str] | None = None,
    name: str | None = None,
) -> int:
    """Run `main` on the words of the command line (default: sys.argv) and return the exit code of the command.

    `--version`, and `--help` where `usage` gives the text, are answered here; `--debug` (or HYDRA_FULL_ERROR=1) adds the
    traceback to a fault and is not handed on. `name` is the command as messages call it; it follows from main's module in
    asr.cli. SIGTERM ends `main` by SystemExit(143), so that its `finally` blocks run. Never raises.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    options = words[: words.index("--")] if "--" in words else words
    name = name or _command_name(main)
    debug = "--debug" in options or os.environ.get("HYDRA_FULL_ERROR") == "1"
    _make_streams_safe()
    previous = _on_terminate(_terminate, only_over=signal.SIG_DFL)
    try:
        if usage is not None and ("--help" in options or "-h" in options):
            print((usage() if callable(usage) else usage).rstrip("\n"))
            code = 0
        elif "--version" in options:
            print(f"asr {__version__}")
            code = 0
        else:
            code = main([word for word in options if word != "--debug"] + words[len(options) :])
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BaseException as error:
        return _end(name, error, debug)
    finally:
        if previous is not None:
            _on_terminate(previous, only_over=_terminate)


def _command_name(main: Callable[..., Any]) -> str:
    package, _, module = getattr(main, "__module__", "").rpartition(".")
    return f"asr-{module}" if package == "asr.cli" else os.path.basename(sys.argv[0]) or "asr"


def _make_streams_safe() -> None:
    """A text the terminal's encoding lacks, or a file name that is no text, is printed escaped instead of raising.

    A stream that was closed before we began is the null device, or the next file to be opened would get its number, and what
    libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _terminate(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


def _on_terminate(handler: Any, *, only_over: Any) -> Any:
    """Set the SIGTERM handler and return the one before, or None where it was not `only_over` or cannot be set."""
    try:
        return signal.signal(signal.SIGTERM, handler) if signal.getsignal(signal.SIGTERM) == only_over else None
    except ValueError:  # not in the main thread
        return None


def _end(name: str, error: BaseException, debug: bool) -> int:
    """Tell the user why the command ended, in one sentence, and return its exit code."""
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        _flush_or_drop()
        return error.code or 0
    if isinstance(error, BrokenPipeError) and (_reader_gone(sys.stdout) or _reader_gone(sys.stderr)):
        _flush_or_drop()
        return READER_GONE
    message, code = explain(error)
    if debug and not isinstance(error, (KeyboardInterrupt, SystemExit)):
        import traceback

        _tell(traceback.format_exc().rstrip("\n"))
    _tell(f"{name}: {message}")
    _flush_or_drop()
    return code


def explain(error: BaseException) -> tuple[str, int]:
    """What the user is told about a fault, and the exit code that goes with it."""
    first_line = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, AsrError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "stopped", INTERRUPTED
    if isinstance(error, SystemExit):
        return str(error.code), UsageError.exit_code
    if is_out_of_memory(error):
        detail = f" ({first_line})" if first_line else ""
        return f"out of memory{detail}: use smaller batches or a smaller model, or close other programs", ResourceError.exit_code
    if isinstance(error, OSError) and error.errno in EXHAUSTED:
        return f"{_named(error)}: free some space, or choose another place", ResourceError.exit_code
    if isinstance(error, OSError) and error.errno and error.filename is not None:
        return f"{_named(error)}: check the path and its permissions", UsageError.exit_code
    if isinstance(error, ImportError) and not (error.name or "").startswith("asr"):
        return (
            f"a package this command needs cannot be loaded ({first_line}): install asr again as README.md says",
            UsageError.exit_code,
        )
    detail = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    return f"internal fault ({detail}): run the command again with --debug and report what it prints", INTERNAL_FAULT


def _named(error: OSError) -> str:
    what = (error.strerror or os.strerror(error.errno or 0)).lower()
    if error.filename is None:
        return what
    shown = error.filename if isinstance(error.filename, str) else os.fsdecode(error.filename)
    return f"{shown if shown.isprintable() else ascii(shown)}: {what}"


def _tell(text: str) -> None:
    """Print to stderr; where that is closed there is nobody to tell."""
    if sys.stderr is not None:
        try:
            print(text, file=sys.stderr, flush=True)
        except (OSError, ValueError):
            return


def _reader_gone(stream: TextIO | None) -> bool:
    try:
        if stream is not None:
            stream.flush()
            return _hung_up(stream.fileno())
    except BrokenPipeError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _hung_up(descriptor: int) -> bool:
    """Whether nobody reads a pipe any more: needed where output is unbuffered, so that nothing is left to flush."""
    import select

    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _flush_or_drop() -> None:
    """Flush the output; where its reader is gone or the disk is full, drop the rest, or Python would complain at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            try:
                sink = os.open(os.devnull, os.O_WRONLY)
                os.dup2(sink, stream.fileno())
                os.close(sink)
            except (OSError, ValueError):
                continue
