"""What can be done to a command before it starts: each function is called in a forked process, with plain arguments."""

import ctypes
import os
import resource
import signal
import stat
import sys
import time
from pathlib import Path


def die_at_event(folder: str, number: int, record: str = "") -> None:
    """End like a SIGKILL before the `number`-th change of a file below `folder` (from 0; -1: never); `record` lists them.

    Events are opening for writing, mkdir, rename, remove and rmdir. An fsync of a file is one too: the file is then cut in
    half, as a power cut would leave it.
    """
    root = os.path.realpath(folder)
    log = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if record else -1
    seen = 0

    def event(name: str, path: str, descriptor: int = -1) -> None:
        nonlocal seen
        if not (path + os.sep).startswith(root + os.sep):
            return
        if seen == number:
            if descriptor >= 0:
                os.truncate(path, os.path.getsize(path) // 2)
            os._exit(9)
        seen += 1
        if log >= 0:
            os.write(log, f"{name} {os.path.relpath(path, root)}\n".encode())

    def full(path, base: int) -> str:
        folder = os.getcwd() if base is None or base < 0 else os.readlink(f"/proc/self/fd/{base}")
        return os.path.normpath(os.path.join(folder, os.fsdecode(path)))

    def hook(name: str, values: tuple) -> None:
        if name == "open" and isinstance(values[0], (str, bytes)) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            event(name, full(values[0], -1))
        elif name in ("os.mkdir", "os.remove", "os.rmdir"):
            event(name, full(values[0], values[-1]))
        elif name == "os.rename":
            event(name, full(values[0], values[2]))

    plain = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            event("fsync", os.readlink(f"/proc/self/fd/{descriptor}"), descriptor)
        plain(descriptor)

    os.fsync = fsync
    sys.addaudithook(hook)


def before_epoch(number: int, what: str, **values) -> None:
    """Call another sabotage when epoch `number` (from 0) is about to begin."""
    from asr.training.loop import Training

    plain = Training.run_epoch

    def run_epoch(self, *rest, **named):
        if self.epoch == number and self.batch_index == 0:
            globals()[what](**values)
        return plain(self, *rest, **named)

    Training.run_epoch = run_epoch


def die() -> None:
    os._exit(9)


def signal_at_step(number: int, step: int, times: int = 1) -> None:
    """Send this process a signal right after training step `step`."""
    from asr.training.loop import Training

    plain = Training.train_step

    def train_step(self, *rest, **named):
        result = plain(self, *rest, **named)
        if self.step == step:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return result

    Training.train_step = train_step


def limit_file_size(size: int) -> None:
    """No file may become larger than this many bytes (EFBIG, for Python ignores SIGXFSZ)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def drop_privileges() -> None:
    """Give up what lets root read and write in spite of permissions; the user stays the same."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


def slow_reads(seconds: float) -> None:
    """Every look at a recording takes this long."""
    import soundfile

    plain = soundfile.SoundFile.__init__

    def init(self, *rest, **named):
        time.sleep(seconds)
        plain(self, *rest, **named)

    soundfile.SoundFile.__init__ = init


def slow_steps(seconds: float) -> None:
    """Every training step takes this long."""
    from asr.training.loop import Training

    plain = Training.train_step

    def train_step(self, *rest, **named):
        time.sleep(seconds)
        return plain(self, *rest, **named)

    Training.train_step = train_step


def die_after_batches(count: int) -> None:
    """End like a SIGKILL in decoding, when `count` batches have been heard."""
    from asr.decoding import transcribe

    plain = transcribe.emit
    heard = 0

    def emit(*rest, **named):
        nonlocal heard
        if heard == count:
            os._exit(9)
        heard += 1
        return plain(*rest, **named)

    transcribe.emit = emit


def no_curves() -> None:
    """A picture in no time, through the same file events."""
    from matplotlib.figure import Figure

    def savefig(self, path, **named):
        Path(path).write_bytes(b"\x89PNG")

    Figure.savefig = savefig


def no_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
