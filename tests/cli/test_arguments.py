"""The pass before Hydra, and how every command ends."""

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from asr import __version__
from asr.cli.arguments import Arguments, closest, explain, run_command, split_arguments
from asr.errors import DataError, ModelError, ResourceError, UsageError

ROOT = Path(__file__).resolve().parents[2]
KEYS = ["model", "manifest", "out", "batch_seconds", "encoder.layers", "run_dir"]
ODD_PATHS = [
    "with space",
    "a=b",
    "#1",
    "it's",
    'say "hi"',
    "(1)",
    "x,y",
    "Übung/größe",
    "${HOME}",
    "[0]{1}",
    "*?",
    "back\\slash",
    "🎤",
    "-leading",
    "two\nlines",
    "nfd-e\u0301",
    "",
]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_path_value_is_taken_as_it_stands(path: str) -> None:
    found = split_arguments([f"out={path}", "batch_seconds=3"], path_keys=["out"])
    assert found == Arguments(overrides=["batch_seconds=3"], paths={"out": path})


@pytest.mark.parametrize("path", ODD_PATHS)
def test_any_word_behind_two_dashes_is_a_file(path: str) -> None:
    found = split_arguments(["out=x", "--", path, "out=y", "--help", "--"], path_keys=["out"], allow_files=True)
    assert found == Arguments(paths={"out": "x"}, files=[path, "out=y", "--help", "--"])


def test_words_without_key_are_files() -> None:
    words = ["model=runs/a", "b c.wav", "./a=b.wav", "(1)=x.wav", "../ü=1/x.flac", "-", "beam=3"]
    found = split_arguments(words, path_keys=["model"], allow_files=True)
    assert found.files == ["b c.wav", "./a=b.wav", "(1)=x.wav", "../ü=1/x.flac", "-"]
    assert found.overrides == ["beam=3"]
    assert found.paths == {"model": "runs/a"}


def test_a_repeated_path_key_keeps_its_last_value() -> None:
    assert split_arguments(["out=a", "out=b"], path_keys=["out"]).paths == {"out": "b"}


def test_the_home_folder_is_expanded_as_a_shell_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    words = ["out=~/x y", "model=~", "manifest=a~/b"]
    assert split_arguments(words, path_keys=KEYS).paths == {"out": "/home/ann/x y", "model": "/home/ann", "manifest": "a~/b"}
    monkeypatch.delenv("HOME")
    assert split_arguments(["out=~/x"], path_keys=KEYS).paths["out"].endswith("/x")


@pytest.mark.parametrize(
    ("words", "seen"), [(["-h"], (True, False)), (["--help", "x"], (True, False)), (["--debug"], (False, True))]
)
def test_flags(words: list[str], seen: tuple[bool, bool]) -> None:
    found = split_arguments(words)
    assert (found.help, found.debug) == seen


@pytest.mark.parametrize(
    ("words", "files", "message"),
    [
        (["--model", "x"], True, r"unknown option '--model': .* did you mean model=VALUE; a file .* goes after --$"),
        (["--run-dir=x"], False, r"did you mean run_dir=x$"),
        (["--layers=3"], False, r"did you mean encoder.layers=3$"),
        (["-v"], False, r"unknown option '-v': options are written key=value, and --help lists them$"),
        (
            ["--multirun"],
            False,
            r"one configuration; a loop of the shell goes on when one of several fails: for s in 1 2 3; do ",
        ),
        (["--hepl"], False, r"did you mean --help$"),
        (["--debgu"], False, r"did you mean --debug$"),
        (["digits"], False, r"'digits' is no key=value, and this command takes no files"),
        (["run_dr"], False, r"did you mean run_dir=\.\.\.;"),
        (["a.wav"], False, r"takes no files: everything is written key=value; a value with spaces goes in quotes$"),
        (["run_dir", "=", "x"], False, r"'run_dir' has no value: write run_dir=VALUE, without spaces"),
        (["out=my", "runs"], False, r"a value with spaces goes in quotes$"),
        (["+encoder.layers=3"], True, r"write encoder\.layers=3"),
        (["++encoder.layers=3"], False, r"write encoder\.layers=3"),
        (["~encoder.layers=3"], False, r"no key can be removed"),
        (["--", "a.wav"], False, r"takes no files"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_advice(words: list[str], files: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        split_arguments(words, path_keys=["out"], allow_files=files, keys=KEYS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["digits", "digts", "experiment-digits"])
def test_a_word_that_is_a_known_value_is_offered_with_its_key(word: str) -> None:
    with pytest.raises(UsageError, match=r"did you mean experiment=digits;"):
        split_arguments([word], keys=[*KEYS, "experiment=digits", "experiment=fsdd", "init"])


def test_a_tilde_before_a_file_is_no_hydra_prefix() -> None:
    assert split_arguments(["~/music/a=b.wav", "+1.wav"], allow_files=True).files == ["~/music/a=b.wav", "+1.wav"]


@pytest.mark.parametrize(
    ("word", "best"),
    [
        ("encoder.layrs", "encoder.layers"),
        ("layers", "encoder.layers"),
        ("Out", "out"),
        ("batchseconds", "batch_seconds"),
        ("encoder.batch_second", "batch_seconds"),
        ("modle", "model"),
    ],
)
def test_closest(word: str, best: str) -> None:
    assert closest(word, KEYS) == best


def test_closest_can_ask_for_some_likeness() -> None:
    assert closest("modle", KEYS, least=0.7) == "model"
    assert closest("xyz", KEYS, least=0.7) == ""


def test_closest_names_all_that_are_equally_good_and_nothing_when_nothing_is_known() -> None:
    assert closest("dropout", ["a.dropout", "b.dropout", "c.width"]) == "a.dropout or b.dropout"
    assert closest("dropout", []) == ""


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UsageError("encoder.width must be positive"), 2, "^encoder.width must be positive$"),
        (DataError("a.wav: file is empty"), 3, "^a.wav: file is empty$"),
        (ModelError("no model"), 4, "^no model$"),
        (ResourceError("/x: no space left"), 5, "^/x: no space left$"),
        (KeyboardInterrupt(), 130, "^stopped$"),
        (SystemExit("no"), 2, "^no$"),
        (MemoryError(), 5, "^out of memory: use smaller batches"),
        (MemoryError("Unable to allocate 9 TiB"), 5, "Unable to allocate 9 TiB"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 5, "^out of memory .*2 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), 5, "^out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/model"), 5, "^/x/model: no space left on device: free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 5, "^disk quota exceeded"),
        (PermissionError(errno.EACCES, "Permission denied", "/x\n"), 2, r"^'/x\\n': permission denied: check the path"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", b"/y"), 2, "^/y: no such file"),
        (ImportError("libcudart.so.12: cannot open shared object file"), 2, "libcudart.so.12.*install asr again"),
        (ImportError("cannot import name 'x'", name="asr.text"), 1, "internal fault"),
        (ValueError("two\nlines"), 1, r"^internal fault \(ValueError: two\): run the command again with --debug"),
        (
            RuntimeError("could not create a primitive"),
            5,
            r"^out of memory \(could not create a primitive\): use ",
        ),
        (RuntimeError("could not create a primitive descriptor for x"), 1, r"^internal fault"),
        (ZeroDivisionError(), 1, r"^internal fault \(ZeroDivisionError\)"),
        (OSError("no number"), 1, "internal fault"),
    ],
)
def test_each_fault_has_its_sentence_and_exit_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: list[str]) -> int:
        raise error

    assert explain(error)[1] == code
    assert re.search(message, explain(error)[0])
    assert run_command(main, [], name="asr-test") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"asr-test: {explain(error)[0]}\n"


@pytest.mark.parametrize(("code", "expected"), [(None, 0), (0, 0), (2, 2), (3, 3)])
def test_system_exit_keeps_its_code_in_silence(code: int | None, expected: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main(argv: list[str]) -> int:
        raise SystemExit(code)

    assert run_command(main, []) == expected
    assert capsys.readouterr() == ("", "")


def failing(argv: list[str]) -> int:
    assert "--debug" not in argv
    raise UsageError("no such thing")


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    assert run_command(failing, ["x=1"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert run_command(failing, ["x=1", "--debug"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("no such thing\n")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert run_command(failing, ["x=1"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_words_reach_main_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def main(argv: list[str]) -> int:
        seen.append(argv)
        return 3

    assert run_command(main, ["a", "--debug", "--", "--debug", "--version", "-h"], usage="never") == 3
    assert seen == [["a", "--", "--debug", "--version", "-h"]]
    assert capsys.readouterr() == ("", "")


def test_help_and_version_do_not_run_main(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(failing, ["-h", "x"], usage="the help\n") == 0
    assert capsys.readouterr().out == "the help\n"
    assert run_command(failing, ["x", "--help"], usage=lambda: "made late") == 0
    assert capsys.readouterr().out == "made late\n"
    assert run_command(failing, ["--version"]) == 0
    assert capsys.readouterr().out == f"asr {__version__}\n"


def test_the_handler_of_sigterm_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run_command(lambda argv: 0, []) == 0
    assert signal.getsignal(signal.SIGTERM) == before


def child(body: str, **more) -> subprocess.Popen:
    """A Python process that runs `main`, whose body is given, as a command."""
    program = "import os, signal, sys, time\nfrom asr.cli.arguments import run_command\ndef main(argv):\n"
    program += textwrap.indent(textwrap.dedent(body), "    ") + "\nsys.exit(run_command(main, [], name='asr-test'))\n"
    flags = more.pop("flags", [])
    return subprocess.Popen(
        [sys.executable, *flags, "-c", program], stderr=subprocess.PIPE, **{"stdout": subprocess.PIPE, **more}
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_cleanly(number: signal.Signals, code: int) -> None:
    process = child("try:\n    print('ready', flush=True); time.sleep(300)\nfinally:\n    print('cleaned up')")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (code, b"cleaned up\n")
    assert err in (b"", b"asr-test: stopped\n")


@pytest.mark.parametrize("flags", [[], ["-u"]])
def test_a_reader_that_has_gone_is_no_fault(flags: list[str]) -> None:
    process = child("while True:\n    print('word ' * 100)", flags=flags)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_a_broken_pipe_of_our_own_is_told() -> None:
    process = child("raise BrokenPipeError('a worker has gone')")
    assert process.communicate()[1].startswith(b"asr-test: internal fault (BrokenPipeError: a worker has gone)")
    assert process.returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_below_the_output_is_told() -> None:
    with open("/dev/full", "wb") as full:
        process = child("print('x'); return 0", stdout=full)
        err = process.communicate()[1]
    assert (process.returncode, err) == (5, b"asr-test: no space left on device: free some space, or choose another place\n")


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}],
)
def test_a_terminal_without_unicode_gets_escapes(environment: dict[str, str]) -> None:
    body = "print('gr\\xf6\\xdfe \\udcff \\U0001f3a4')\nfrom asr.errors import UsageError\nraise UsageError('sch\\xf6n')"
    # -S: Python 3.11 itself cannot read site-packages/*.pth here when the checkout lies below a folder that is not ASCII
    process = child(body, flags=["-S"], env={"PYTHONPATH": str(ROOT), **environment})
    out, err = process.communicate()
    assert process.returncode == 2
    assert out.strip() in ("größe \\udcff 🎤".encode(), b"gr\\xf6\\xdfe \\udcff \\U0001f3a4")
    assert err.strip() in ("asr-test: schön".encode(), b"asr-test: sch\\xf6n")


def test_closed_streams_are_no_fault() -> None:
    process = child("sys.stdout = sys.stderr = None\nprint('x')\nraise ValueError('nobody hears')")
    assert process.communicate() == (b"", b"")
    assert process.returncode == 1


def test_a_closed_stream_gives_its_number_to_no_file(tmp_path: Path) -> None:
    """Libraries print to number 2, whatever that is; a training once lost its words to standard output."""
    body = f"with open({str(tmp_path / 'kept')!r}, 'w') as file:\n    os.write(1, b'noise'); os.write(2, b'noise')\n"
    body += "    print('x', file=sys.stderr); print('y'); sys.stdout.flush()\n    return 10 + file.fileno()"
    process = child(body, preexec_fn=lambda: [os.close(number) for number in (0, 1, 2)])
    assert process.communicate() == (b"", b"")
    assert process.returncode >= 13
    assert (tmp_path / "kept").read_text() == ""


def test_a_key_that_has_known_values_can_lack_one_too() -> None:
    with pytest.raises(UsageError, match=r"'experiment' has no value: write experiment=VALUE, without spaces"):
        split_arguments(["experiment", "digits"], keys=[*KEYS, "experiment=digits", "experiment=fsdd"])


def test_initials_stand_for_a_key() -> None:
    known = ["encoder.layers", "optim.learning_rate", "training.average_last", "lm"]
    assert closest("lr", known) == closest("optim.lr", known) == "optim.learning_rate"
    assert closest("lm", known) == "lm"
    with pytest.raises(UsageError, match=r"did you mean optim\.learning_rate=3$"):
        split_arguments(["--lr=3"], keys=known)
