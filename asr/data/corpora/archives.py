"""What ``asr-data prepare --download`` fetches: the publishers' files, with the sizes and check sums that somebody published.

``source`` names who, and where. OpenSLR publishes md5 sums of some of its files; sha256 sums come from lists that others keep of
the files they fetched: torchaudio (``torchaudio/datasets/*.py`` of github.com/pytorch/audio) and tensorflow_datasets
(``tensorflow_datasets/url_checksums/*.txt`` and ``datasets/*/checksums.tsv`` of github.com/tensorflow/datasets). All of them were
compared with these files again. Where no sum could be found (speechocean762, AN4 at its publisher), none stands here, and the
command says so. TED-LIUM 3 is missing: its archive holds symbolic links, which are refused.
"""

from collections.abc import Sequence
from typing import Any

from asr.data.archive import Archive

#: Sizes from the first, sums from both.
BOTH = "tensorflow_datasets/url_checksums, torchaudio/datasets"
OPENSLR = "https://www.openslr.org/resources"


def _librispeech(part: str, size: int, sha256: str) -> Archive:
    return Archive(f"{OPENSLR}/12/{part}.tar.gz", f"LibriSpeech/{part}", size, sha256, source=BOTH)


LIBRISPEECH = (
    _librispeech("train-clean-100", 6387309499, "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2"),
    _librispeech("train-clean-360", 23049477885, "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf"),
    _librispeech("train-other-500", 30593501606, "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2"),
    _librispeech("dev-clean", 337926286, "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3"),
    _librispeech("dev-other", 314305928, "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365"),
    _librispeech("test-clean", 346663984, "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23"),
    _librispeech("test-other", 328757843, "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29"),
)
#: How many of the three training archives each value of --train needs; auto begins with the smallest.
TRAINING = {"auto": 1, "100": 1, "460": 2, "960": 3}

MINI_LIBRISPEECH = (
    Archive(
        f"{OPENSLR}/31/train-clean-5.tar.gz",
        "LibriSpeech/train-clean-5",
        332954390,
        md5="5df7d4e78065366204ca6845bb08f490",
        source="openslr.org/resources/31/md5sum.txt",
    ),
    Archive(
        f"{OPENSLR}/31/dev-clean-2.tar.gz",
        "LibriSpeech/dev-clean-2",
        126046265,
        md5="6d7ab67ac6a1d2c993d050e16d61080d",
        source="openslr.org/resources/31/md5sum.txt",
    ),
)
YESNO = (
    Archive(
        f"{OPENSLR}/1/waves_yesno.tar.gz",
        "waves_yesno",
        4703754,
        "c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73",
        source="torchaudio/datasets; the size from published logs of downloads",
    ),
)
SPEECHOCEAN762 = (Archive(f"{OPENSLR}/101/speechocean762.tar.gz", "speechocean762"),)
#: The version with all six speakers. GitHub packs it anew on demand, so no sum of it is published.
FSDD = (
    Archive(
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.10.tar.gz",
        "free-spoken-digit-dataset-1.0.10",
    ),
)
AN4 = (Archive("http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz", "an4"),)
LJSPEECH = (
    Archive(
        "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
        "LJSpeech-1.1",
        2748572632,
        "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        source=BOTH,
    ),
)
VCTK = (
    Archive(
        "https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
        "VCTK-Corpus-0.92/wav48_silence_trimmed",
        11747302977,
        "f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
        into="VCTK-Corpus-0.92",
        source=BOTH,
    ),
)
SPEECHCOMMANDS = (
    Archive(
        "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        "speech_commands_v0.02/testing_list.txt",
        2428923189,
        "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        into="speech_commands_v0.02",
        source=BOTH,
    ),
)


def librispeech(options: Any) -> Sequence[Archive]:
    """The training parts that ``--train`` names, and the four small parts."""
    return (*LIBRISPEECH[: TRAINING[options.train]], *LIBRISPEECH[3:])
