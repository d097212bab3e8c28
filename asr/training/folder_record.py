"""What a folder of recordings held when a training was begun with it, file by file, so that a change is found and named."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.data.corpora.corpus import expect_folder, some
from asr.data.corpora.folder import scan_folder
from asr.data.files import file_sha256, show_path
from asr.errors import ModelError, UsageError

RECORD = "folder.json"
FORMAT = 1


def mark_files(root: Path) -> dict[str, dict[str, Any]]:
    """Size, time and sum of every recording and transcript, by its path below the folder."""
    return {name: {**_stamp(path), "sha256": file_sha256(path)} for name, path in _files(root).items()}


def _files(root: Path) -> dict[str, Path]:
    expect_folder(root, "the recordings that the run was begun with")
    recordings, transcripts, _ = scan_folder(root)
    paths = [path for table in (recordings, transcripts) for listed in table.values() for path in listed]
    return {show_path(os.path.relpath(path, root)): path for path in sorted(paths)}


def _stamp(path: Path) -> dict[str, Any]:
    status = os.stat(path)
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def read_record(path: Path) -> dict[str, Any]:
    """The record of a folder; raises UsageError where there is none, ModelError where it is damaged."""
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["format"] != FORMAT:
            raise ValueError
        if not isinstance(record["keys"], dict) or not all(isinstance(mark["sha256"], str) for mark in record["files"].values()):
            raise ValueError
        return dict(record)
    except FileNotFoundError:
        raise UsageError(
            f"{path.parent.parent} holds a training that was not begun with data.folder: choose another run_dir"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{show_path(path)}: is damaged or of another version; choose another run_dir") from None


def refuse_changed(record: Mapping[str, Any], root: Path, run_dir: Path) -> None:
    """UsageError naming the files that were added, removed or changed since the run was begun."""
    if record["folder"] != os.path.abspath(root):
        raise UsageError(f"{run_dir} was begun with data.folder={record['folder']}: give that one, or choose another run_dir")
    before, now = record["files"], _files(root)
    changed = [name for name in sorted(now) if name in before and _differs(now[name], before[name])]
    found = {
        "added": sorted(set(now) - set(before)),
        "removed": sorted(set(before) - set(now)),
        "changed": changed,
    }
    told = [f"{len(names)} {kind} ({some(names, limit=3)})" for kind, names in found.items() if names]
    if told:
        raise UsageError(
            f"{show_path(root)} has changed since {run_dir} was begun: {', '.join(told)}; bring it back into the state it had, "
            "or choose another run_dir"
        )


def _differs(path: Path, mark: Mapping[str, Any]) -> bool:
    stamp = _stamp(path)
    if stamp["bytes"] != mark["bytes"]:
        return True
    return stamp["mtime_ns"] != mark["mtime_ns"] and file_sha256(path) != mark["sha256"]
