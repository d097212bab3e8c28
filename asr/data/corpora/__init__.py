"""The corpora that ``asr-data prepare`` knows: one file each, and one row in the table."""

from asr.data.corpora import digits, folder, fsdd, kaldi, speechocean762, table, yesno
from asr.data.corpora.corpus import Corpus, Prepared

__all__ = ["CORPORA", "Corpus", "Prepared"]

CORPORA = {
    "speechocean762": Corpus(
        summary="English sentences read by Mandarin speakers, adults and children (OpenSLR 101); text and phones",
        options=speechocean762.SpeechoceanOptions,
        prepare=speechocean762.prepare,
        experiment="speechocean762_phones",
        root="the corpus, with WAVE/, train/ and resource/",
    ),
    "fsdd": Corpus(
        summary="single spoken digits of six speakers (Free Spoken Digit Dataset); official split or leave one speaker out",
        options=fsdd.FsddOptions,
        prepare=fsdd.prepare,
        experiment="fsdd",
        root="the dataset, with recordings/",
    ),
    "yesno": Corpus(
        summary="sixty recordings of eight Hebrew words, yes or no (OpenSLR 1)",
        options=yesno.YesnoOptions,
        prepare=yesno.prepare,
        experiment="yesno",
        root="the folder of the recordings",
    ),
    "digits": Corpus(
        summary="SYNTHETIC connected digits, spoken here by espeak-ng; needs no data but the extra demo",
        options=digits.DigitsOptions,
        prepare=digits.prepare,
        experiment="digits",
        root="",
        generated=True,
    ),
    "folder": Corpus(
        summary="your recordings with transcripts of the same name (.txt or .lab), speakers by sub-directory",
        options=folder.FolderOptions,
        prepare=folder.prepare,
        experiment="speechocean762_characters",
        root="the folder of recordings and transcripts",
    ),
    "kaldi": Corpus(
        summary="a Kaldi data folder (wav.scp, text, utt2spk, segments), or a folder of such folders train, dev, test",
        options=kaldi.KaldiOptions,
        prepare=kaldi.prepare,
        experiment="speechocean762_characters",
        root="the data folder, or the folder of data folders",
    ),
    "csv": Corpus(
        summary="any CSV or TSV table with a column of paths and a column of transcripts",
        options=table.TableOptions,
        prepare=table.prepare,
        experiment="speechocean762_characters",
        root="the table; relative paths in it start from its folder (or a folder to start from, with --table)",
    ),
}
