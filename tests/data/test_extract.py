"""Archives that are fine come out as tarfile and zipfile have packed them; all others are refused and leave nothing."""

import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.data.extract import Extracted, ExtractLimits, extract
from asr.errors import DataError, ResourceError

CONTENT = {
    "corpus/README": b"read me\n",
    "corpus/wav/a b/1.wav": bytes(range(256)) * 5,
    "corpus/wav/leer.txt": b"",
    "corpus/" + "d" * 90 + "/" + "long-" * 30 + "ü.txt": "Überlänge".encode(),
}
MODES = {"": "", ".gz": "gz", ".bz2": "bz2", ".xz": "xz"}


def tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "", **options) -> Path:
    with tarfile.open(path, f"w:{mode}" if mode else "w", **options) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def member(name: str, data: bytes = b"x", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, b"", type=tarfile.DIRTYPE, mode=0o2755)


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", MODES)
@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_of_every_style_and_packer(tmp_path: Path, suffix: str, style: int):
    names = {name: data for name, data in CONTENT.items() if style != tarfile.USTAR_FORMAT or len(name.rpartition("/")[2]) < 100}
    members = [folder("./corpus"), *(member(f"./{name}", data) for name, data in names.items())]
    path = tar(tmp_path / f"a.tar{suffix}", members, MODES[suffix], format=style)
    seen: list[int] = []
    done = extract(path, tmp_path / "out", on_read=seen.append)
    assert done == Extracted(len(names), sum(map(len, names.values())))
    assert content(tmp_path / "out") == names
    assert seen == sorted(seen)
    assert seen[-1] == path.stat().st_size


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_zip_of_every_method(tmp_path: Path, method: int):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.mkdir("corpus/empty")
        for name, data in CONTENT.items():
            archive.writestr(name, data)
    assert extract(tmp_path / "a.zip", tmp_path / "out").files == len(CONTENT)
    assert content(tmp_path / "out") == CONTENT
    assert (tmp_path / "out" / "corpus" / "empty").is_dir()


def test_old_headers_and_large_numbers_are_read(tmp_path: Path):
    """A header before POSIX has no magic and marks a folder by its last character; GNU writes large numbers in base 256."""
    path = tar(tmp_path / "a.tar", [member("old/", b""), member("old/file", b"abc", mtime=2**40)], format=tarfile.GNU_FORMAT)
    data = bytearray(path.read_bytes())
    for start in (0, 512):
        block = data[start : start + 512]
        block[156:157], block[257:265] = b"\0", bytes(8)
        block[148:156] = b" " * 8
        block[148:155] = b"%06o\0" % sum(block)
        data[start : start + 512] = block
    path.write_bytes(data)
    with tarfile.open(path) as referee:
        assert referee.getnames() == ["old", "old/file"]
    extract(path, tmp_path / "out")
    assert content(tmp_path / "out") == {"old/file": b"abc"}


def test_modes_and_owners_are_not_taken_over(tmp_path: Path):
    extract(tar(tmp_path / "a.tar", [folder("d"), member("d/x.sh", mode=0o755)]), tmp_path / "out")
    assert (tmp_path / "out" / "d" / "x.sh").stat().st_mode & 0o7111 == 0
    assert (tmp_path / "out" / "d").stat().st_mode & 0o6000 == 0


def sparse(path: Path) -> Path:
    """GNU's own sparse header: one terabyte of nothing."""
    path = tar(path, [member("huge", b"")], format=tarfile.GNU_FORMAT)
    block = bytearray(path.read_bytes()[:512])
    block[156:157] = b"S"
    block[483:495] = b"\x80" + (2**40).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    path.write_bytes(bytes(block) + bytes(1024))
    return path


BAD_TAR: dict[str, tuple[list, str]] = {
    "parent": ([member("ok"), member("a/../../evil")], "a/../../evil leads out of the folder"),
    "parent-only": ([member("..")], r"\.\. leads out of the folder"),
    "absolute": ([member("/canary")], "/canary is an absolute path"),
    "drive": ([member("C:evil")], "C:evil is an absolute path"),
    "backslash": ([member("..\\evil")], "holds a backslash"),
    "newline": ([member("a\nb")], r"'a\\nb' holds a backslash, a control character"),
    "symlink": ([member("link", b"", type=tarfile.SYMTYPE, linkname="/")], "link is a symbolic link"),
    "write-through": (
        [member("d", b"", type=tarfile.SYMTYPE, linkname=".."), member("d/evil")],
        "d is a symbolic link",
    ),
    "hard-link": ([member("a"), member("b", b"", type=tarfile.LNKTYPE, linkname="a")], "b is a hard link"),
    "device": ([member("null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], "null is a character device"),
    "block-device": ([member("disk", b"", type=tarfile.BLKTYPE, devmajor=8)], "disk is a block device"),
    "pipe": ([member("pipe", b"", type=tarfile.FIFOTYPE)], "pipe is a named pipe"),
    "unknown-type": ([member("odd", b"", type=b"Z")], "odd is an entry of the unknown type b'Z'"),
    "setuid": ([member("su", mode=0o4755)], "su is a file with the setuid or setgid bit"),
    "setgid": ([member("sg", mode=0o2755)], "sg is a file with the setuid or setgid bit"),
    "twice": ([member("a"), member("./a")], "a stands in it twice"),
    "case": ([member("d/Readme"), member("D/README")], "D and d are one name on file systems that ignore letter case"),
    "unicode-form": ([member("\u00e9"), member("e\u0301")], "are one name on file systems"),
    "file-and-folder": ([member("a"), member("a/b")], "a is both a file and a folder"),
    "folder-and-file": ([member("a/b"), member("a")], "a is both a file and a folder"),
    "deep": ([member("/".join("d" * 40))], "lies more than 32 folders deep"),
    "long-part": ([member("n" * 256)], "has a part longer than 255 bytes"),
    "empty-name": ([member("")], "a member without a name"),
    "latin-1": ([member("J\udcf6rg")], "bytes that are no UTF-8"),
}


@pytest.mark.parametrize("row", BAD_TAR)
def test_a_bad_tar_is_refused_and_nothing_stays(tmp_path: Path, row: str):
    canary = tmp_path / "canary"
    canary.mkdir()
    members, message = BAD_TAR[row]
    path = tar(canary / "a.tar.gz", [member("first/file"), *members], "gz", format=tarfile.GNU_FORMAT)
    with pytest.raises(DataError, match=message) as caught:
        extract(path, canary / "out")
    assert str(caught.value).startswith(f"{path}: refused: ")
    assert str(caught.value).count("\n") == 0
    assert [entry.name for entry in canary.iterdir()] == ["a.tar.gz"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["canary"]


def test_sparse_files_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="huge is a sparse file"):
        extract(sparse(tmp_path / "a.tar"), tmp_path / "out")
    info, data = member("huge")
    info.pax_headers = {"GNU.sparse.realsize": str(2**40)}
    with pytest.raises(DataError, match="huge is a sparse file"):
        extract(tar(tmp_path / "b.tar", [(info, data)], format=tarfile.PAX_FORMAT), tmp_path / "out")


def test_a_promised_terabyte_is_refused_before_it_is_written(tmp_path: Path):
    header = member("huge", b"")[0]
    header.size = 2**40
    (tmp_path / "a.tar").write_bytes(header.tobuf() + bytes(1024))
    with pytest.raises(DataError, match=r"refused: unpacks to more than 67 MB, packed are 0\.0 MB"):
        extract(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_bombs_stop_at_the_limit(tmp_path: Path, mode: str):
    limits = ExtractLimits(floor=2**20, ratio=10)
    path = tar(tmp_path / "a.tar", [member(f"{number}", bytes(2**19)) for number in range(24)], mode)
    assert path.stat().st_size < 2**16
    with pytest.raises(DataError, match="refused: unpacks to more than"):
        extract(path, tmp_path / "out", limits=limits)
    assert not (tmp_path / "out").exists()


def test_a_bomb_of_empty_files_and_one_behind_the_end(tmp_path: Path):
    path = tar(tmp_path / "a.tar", [member(f"{number}", b"") for number in range(100)], "gz")
    assert ExtractLimits().members == 500_000
    with pytest.raises(DataError, match="refused: more than 99 members"):
        extract(path, tmp_path / "out", limits=ExtractLimits(members=99))
    with pytest.raises(DataError, match="unpacks to more than"):
        extract(path, tmp_path / "out", limits=ExtractLimits(floor=1000, ratio=0))
    plain = tar(tmp_path / "b.tar", [member("a")]).read_bytes()
    (tmp_path / "b.tar").write_bytes(plain + bytes(2**21))
    with pytest.raises(DataError, match="more bytes stand behind the end mark"):
        extract(tmp_path / "b.tar", tmp_path / "out")


def test_records_of_any_length_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"a name or record of 70,00. bytes"):
        extract(tar(tmp_path / "a.tar", [member("n" * 70_000)], format=tarfile.GNU_FORMAT), tmp_path / "out")
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 8
    for record in (b"999 a=b\n", b"8 path\n\n", b"-1 a=b\n\n", b"4 a=b\n\n\n"):
        block = header.tobuf() + record.ljust(512, b"\0") + member("x", b"")[0].tobuf() + bytes(1024)
        (tmp_path / "b.tar").write_bytes(block)
        with pytest.raises(DataError, match="pax record of the archive is damaged"):
            extract(tmp_path / "b.tar", tmp_path / "out")


@pytest.mark.parametrize("suffix", MODES)
def test_every_cut_is_seen(tmp_path: Path, suffix: str):
    path = tar(tmp_path / "a.tar", [member("a", os.urandom(3000)), member("b", os.urandom(700))], MODES[suffix])
    data = path.read_bytes()
    ends = {len(data) - 1, *range(0, len(data) - (10240 - 5632 + 1024 if not suffix else 0), 97)}
    if not suffix:
        ends -= {len(data) - 1}  # padding behind the end mark
    for end in sorted(ends):
        path.write_bytes(data[:end])
        with pytest.raises(DataError, match=r"cut|empty|no archive"):
            extract(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_flipped_bits_are_seen(tmp_path: Path, suffix: str):
    """The check sum of the packer stands behind the end mark of tar, so reading has to go on to the end."""
    path = tar(tmp_path / "a.tar", [member("a", os.urandom(5000))], MODES[suffix])
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data) // 2, 61):
        damaged = data.copy()
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            extract(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_wrong_tar_check_sum_is_named(tmp_path: Path):
    path = tar(tmp_path / "a.tar", [member("a"), member("b")])
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="a tar header is damaged"):
        extract(path, tmp_path / "out")


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def info(name: str, kind: int) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name)
    found.create_system, found.external_attr = 3, kind << 16
    return found


def patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def encrypted(data: bytearray) -> None:
    data[6] |= 1
    at = data.rfind(b"PK\x01\x02")
    data[at + 8] |= 1


def wrong_crc(data: bytearray) -> None:
    at = data.rfind(b"PK\x01\x02")
    data[14] ^= 1
    data[at + 16] ^= 1


def too_small(data: bytearray) -> None:
    """The directory promises fewer bytes than come out."""
    at = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 3)


BAD_ZIP: dict[str, tuple[Callable[[Path], Path], str]] = {
    "parent": (lambda path: zipped(path, ("../evil", b"x")), r"\.\./evil leads out of the folder"),
    "absolute": (lambda path: zipped(path, ("/canary", b"x")), "/canary is an absolute path"),
    "symlink": (lambda path: zipped(path, (info("link", 0o120777), b"/")), "link is a symbolic link"),
    "device": (lambda path: zipped(path, (info("null", 0o020666), b"")), "null is a device or a pipe"),
    "setuid": (lambda path: zipped(path, (info("su", 0o104755), b"x")), "su is a file with the setuid"),
    "case": (lambda path: zipped(path, ("a", b"x"), ("A", b"x")), "A and a are one name"),
    "bomb": (lambda path: zipped(path, ("a", bytes(70 * 10**6))), "refused: unpacks to more than 67 MB"),
    "encrypted": (lambda path: patched(zipped(path, ("a", b"xyz")), encrypted), "a is an encrypted file"),
    "lzma": (lambda path: zipped(path, ("a", b"x"), method=zipfile.ZIP_LZMA), "a is a file packed by method 14"),
    "wrong-crc": (lambda path: patched(zipped(path, ("a", b"xyz")), wrong_crc), r"damaged or was cut \(a wrong CRC\)"),
    "too-small": (lambda path: patched(zipped(path, ("a", b"xyzxyz")), too_small), "damaged"),
    "nul": (lambda path: patched(zipped(path, ("a_b", b"x")), lambda data: _replace(data, b"a_b", b"a\0b")), "control character"),
    "cut": (
        lambda path: patched(zipped(path, ("a", b"xyz")), lambda data: data.__delitem__(slice(-9, None))),
        "damaged or was cut",
    ),
}


def _replace(data: bytearray, old: bytes, new: bytes) -> None:
    data[:] = data.replace(old, new)


@pytest.mark.parametrize("row", BAD_ZIP)
def test_a_bad_zip_is_refused_and_nothing_stays(tmp_path: Path, row: str):
    canary = tmp_path / "canary"
    canary.mkdir()
    build, message = BAD_ZIP[row]
    path = build(canary / "a.zip")
    with pytest.raises(DataError, match=message) as caught:
        extract(path, canary / "out")
    assert str(caught.value).startswith(f"{path}: ")
    assert [entry.name for entry in canary.iterdir()] == ["a.zip"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["canary"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_in_a_zip(tmp_path: Path):
    with pytest.raises(DataError, match="a stands in it twice"):
        extract(zipped(tmp_path / "a.zip", ("a", b"1"), ("a", b"2")), tmp_path / "out")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty; expected a tar or zip archive"),
        (b"<!DOCTYPE html><title>Log in</title>", "is a web page"),
        (b"\x1f\x8bnot really", "is damaged or was cut"),
        (bytes(100), "begins with the bytes 00 00"),
        (b"RIFF" * 200, "begins with the bytes 52 49 46 46"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path: Path, data: bytes, message: str):
    (tmp_path / "a.tar.gz").write_bytes(data)
    with pytest.raises(DataError, match=message):
        extract(tmp_path / "a.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_xz_cannot_ask_for_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tar(tmp_path / "a.tar.xz", [member("a", os.urandom(5000))], "xz")
    monkeypatch.setattr("asr.data.tar.XZ_MEMORY", 2**20)
    with pytest.raises(DataError, match=r"no archive|[Mm]emory"):
        extract(path, tmp_path / "out")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tar(tmp_path / "a.tar", [member("a"), member("b/c")])
    made = os.makedirs

    def full(name: str, *args, **kwargs) -> None:
        if str(name).endswith("/b"):
            raise OSError(28, "No space left on device")
        made(name, *args, **kwargs)

    monkeypatch.setattr("asr.data.extract.os.makedirs", full)
    with pytest.raises(ResourceError, match="no space left on the disk"):
        extract(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
