"""What can be done to a command before it starts: each function is called in a forked process, with plain arguments."""

import ctypes
import errno
import os
import resource
import shutil
import stat
import sys
import time
from pathlib import Path


def die_at_event(folder: str, number: int, record: str = "") -> None:
    """End like a SIGKILL before the `number`-th change of a file below `folder` (from 0); its name goes to the file `record`.

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
            if log >= 0:
                os.write(log, f"{name} {os.path.relpath(path, root)}".encode())
            if descriptor >= 0:
                os.truncate(path, os.path.getsize(path) // 2)
            os._exit(9)
        seen += 1

    def full(path, base: int) -> str:
        folder = os.getcwd() if base is None or base < 0 else os.readlink(f"/proc/self/fd/{base}")
        return os.path.normpath(os.path.join(folder, os.fsdecode(path)))

    def hook(name: str, values: tuple) -> None:
        if name == "open" and isinstance(values[0], (str, bytes)) and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            event(name, full(values[0], -1))
        elif name in ("os.remove", "os.rmdir") or (name == "os.mkdir" and not os.path.exists(values[0])):
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


def end() -> None:
    os._exit(0)


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


def record_rates(path: str) -> None:
    """Add the learning rate of every step to a file."""
    from asr.training.loop import Training

    plain = Training.train_step

    def train_step(self, *rest, **named):
        rate = plain(self, *rest, **named)
        with open(path, "a") as handle:
            handle.write(f"{rate!r}\n")
        return rate

    Training.train_step = train_step


def failing_fsync() -> None:
    """A disk that takes what is written and then cannot keep it."""

    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    os.fsync = fsync


def limit_memory(more: int) -> None:
    """The address space may grow by this many bytes only."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))


def limit_file_size(size: int) -> None:
    """No file may become larger than this many bytes (EFBIG, for Python ignores SIGXFSZ)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def fill_disk(folder: str, leave: int) -> None:
    """A file `ballast` takes all but this many bytes."""
    free = shutil.disk_usage(folder).free
    Path(folder, "ballast").write_bytes(bytes(free - leave))


def drop_privileges() -> None:
    """Give up what lets root read and write in spite of permissions; the user stays the same."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


def slow_reads(seconds: float, tell: str = "") -> None:
    """Every look at a recording takes this long; the first one makes the file `tell`."""
    import soundfile

    plain = soundfile.SoundFile.__init__

    def init(self, *rest, **named):
        if tell:
            Path(tell).touch()
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
    from asr.data.files import write_atomic
    from asr.training import metrics

    def draw_curves(lines, path: Path, *, title: str, best_by: str) -> None:
        write_atomic(path, b"\x89PNG")

    metrics.draw_curves = draw_curves


def environment(**values: str) -> None:
    os.environ.update(values)


def work_in(folder: str) -> None:
    os.chdir(folder)


def train_in_each(folders: list[str]) -> None:
    """Train once in every folder, each time in a process of its own, with `code` and `err` left there.

    Composing the configuration takes longer than such a training: here it happens once for all of them.
    """
    from asr.training import train as module

    plain = module.train

    def train(config) -> int:
        for folder in folders:
            pid = os.fork()
            if pid == 0:
                os.chdir(folder)
                err = os.open("err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(err, 2)
                return plain(config)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            Path(folder, "code").write_text(str(code))
        return 0

    module.train = train


def die_at_each_event(epoch: int, copies: str, stride: int = 1) -> None:
    """When `epoch` (from 0) has been trained and is about to be saved: for each (`stride`-th) file event from there to the next
    epoch, or to the end, copy the folder worked in to `copies`/NUMBER and die there before that event. The last one lives.
    """
    from asr.training.loop import Training

    before_epoch(epoch + 1, "end")
    plain = Training.finish_epoch

    def finish_epoch(self, *rest, **named):
        if self.epoch != epoch:
            return plain(self, *rest, **named)
        for number in range(0, 1000, stride):
            folder = Path(copies, str(number))
            shutil.copytree(".", folder)
            pid = os.fork()
            if pid == 0:
                os.chdir(folder)
                die_at_event("run", number, record="event")
                return plain(self, *rest, **named)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code != 9:
                os._exit(code)

    Training.finish_epoch = finish_epoch
