"""What a corpus declares of the files that its publisher offers."""

import os
import urllib.parse
from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A file of a publisher, and what stands below the root once it is unpacked."""

    url: str
    #: Path below the root: where it exists, the archive is neither fetched nor unpacked.
    holds: str
    #: Bytes; None where the publisher names none.
    size: int | None = None
    #: In hexadecimal; empty where neither the publisher nor anyone who is named in ``source`` gives one.
    sha256: str = ""
    #: Used where there is no sha256.
    md5: str = ""
    #: Folder below the root to unpack into, for an archive without a folder of its own.
    into: str = ""
    #: Who gives size and sum.
    source: str = ""

    @property
    def name(self) -> str:
        """The name of the file."""
        return os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(self.url).path))

    def describe(self) -> str:
        """``4.7 MB, sha256 c3f4...``: what is known of the file."""
        known = [f"{self.size:,} bytes" if self.size is not None else ""]
        known += [f"sha256 {self.sha256}" if self.sha256 else f"md5 {self.md5}" if self.md5 else "no check sum is published"]
        return ", ".join(filter(None, known))
