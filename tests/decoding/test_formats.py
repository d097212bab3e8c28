"""Every form of output through a reader that is not ours, and by the letter of its definition where there is none."""

import itertools
import json
import re
from xml.etree import ElementTree

import pytest

from asr.decoding.formats import FORMATS, TimedRecord, parse_record, subtitles
from asr.decoding.hypothesis import Word

WORDS = (
    Word("good", 0.5, 0.9, 0.9),
    Word('morning,"', 0.9, 1.4, 0.8),
    Word("<i>Zoë</i>", 1.4, 2.0, None),
    Word("&", 3.5, 3.6, 0.25),
    Word("bye-->bye", 3.6, 4.25, 1.0),
)
TOKENS = (Word("G", 0.5, 0.7, 0.9), Word("UH", 0.7, 0.75), Word("D", 0.75, 0.9))
RECORD = TimedRecord("talk/1 a", 5.0, WORDS, TOKENS, "phones", audio="talks/a b.wav", text="good morning", score=-3.25)
#: Two words at one time, one without length, one that begins before the one before has ended, one before the beginning.
CROSSED = TimedRecord(
    "x", 1.0, (Word("a", -0.02, 0.1), Word("b", 0.3, 0.3), Word("c", 0.3, 0.5), Word("d", 0.45, 0.6), Word("e", 0.55, 1.2))
)
SILENT = TimedRecord("silent", 2.0, ())


def render(form: str, record: TimedRecord) -> str:
    return FORMATS[form].render(record)


def times(words) -> list[tuple[float, float]]:
    return [(word.start, word.end) for word in words]


# --- CTM


@pytest.mark.parametrize("record", [RECORD, CROSSED], ids=["record", "crossed"])
def test_a_ctm_line_has_five_or_six_columns(record):
    """NIST sctk, ctm(5): recording, channel, begin, duration, word, confidence; begin and duration in seconds."""
    rows = [line.split(" ") for line in render("ctm", record).splitlines()]
    assert len(rows) == len(record.words)
    end = 0.0
    for row, word in zip(rows, record.words):
        assert len(row) == (5 if word.confidence is None else 6)
        assert row[:2] == [record.id.replace(" ", "_"), "1"]
        begin, length = float(row[2]), float(row[3])
        assert begin >= end - 1e-9
        assert length > 0
        end = begin + length
        assert row[4] == word.text
        assert word.confidence is None or float(row[5]) == pytest.approx(word.confidence, abs=1e-4)
    if record is RECORD:
        assert [(float(row[2]), float(row[2]) + float(row[3])) for row in rows] == [pytest.approx(pair) for pair in times(WORDS)]


def test_a_ctm_of_what_would_break_its_columns():
    text = render("ctm", TimedRecord(";;x", 1.0, (Word("two words", 0, 0.5), Word("", 0.5, 1.0))))
    assert [line.split(" ")[0::4] for line in text.splitlines()] == [["_;;x", "two_words"], ["_;;x", "_"]]
    assert render("ctm", SILENT) == ""


@pytest.mark.parametrize("form", ["ctm", "srt", "vtt"])
def test_where_words_are_not_known_phones_are_written(form):
    phones = TimedRecord("u", 1.0, (), TOKENS, "phones")
    assert all(token.text in render(form, phones) for token in TOKENS)
    assert "UH" not in render(form, RECORD)


# --- Praat


@pytest.mark.parametrize("record", [RECORD, CROSSED, SILENT], ids=["record", "crossed", "silent"])
def test_praat_reads_the_textgrid(record, tmp_path):
    textgrid = pytest.importorskip("praatio.textgrid", reason="needs the extra dev")
    path = tmp_path / "a.TextGrid"
    path.write_text(render("textgrid", record), encoding="utf-8")
    found = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    assert found.tierNames == (("words", "phones") if record is RECORD else ("words",))
    assert found.minTimestamp == 0
    assert found.maxTimestamp == max(record.duration, *(word.end for word in record.words), 0)
    for tier in found.tiers:
        entries = tier.entries
        assert (entries[0].start, entries[-1].end) == (0, found.maxTimestamp)
        assert all(one.end == other.start for one, other in itertools.pairwise(entries)), "intervals leave no gap"
        assert all(one.end > one.start for one in entries)
    spoken = [(one.start, one.end, one.label) for one in found.getTier("words").entries if one.label]
    assert [label for _, _, label in spoken] == [word.text for word in record.words]
    if record is RECORD:
        assert [pair[:2] for pair in spoken] == times(WORDS)
        phones = [(one.start, one.end, one.label) for one in found.getTier("phones").entries if one.label]
        assert phones == [(token.start, token.end, token.text) for token in TOKENS]


def test_quotes_are_doubled_and_lines_joined_for_praat():
    text = render("textgrid", TimedRecord("u", 1.0, (Word('say "a"\nb', 0.0, 1.0),)))
    assert '            text = "say ""a"" b"\n' in text
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 1.000\n')


# --- ELAN


@pytest.mark.parametrize("record", [RECORD, CROSSED, SILENT], ids=["record", "crossed", "silent"])
def test_elan_reads_the_annotations(record, tmp_path):
    elan = pytest.importorskip("pympi.Elan", reason="needs the extra dev")
    path = tmp_path / "a.eaf"
    path.write_text(render("elan", record), encoding="utf-8")
    found = elan.Eaf(str(path))
    assert list(found.get_tier_names()) == (["words", "phones"] if record is RECORD else ["words"])
    spoken = found.get_annotation_data_for_tier("words")
    assert [entry[2] for entry in spoken] == [word.text for word in record.words]
    if record is RECORD:
        assert [entry[:2] for entry in spoken] == [(round(1000 * a), round(1000 * b)) for a, b in times(WORDS)]
        assert [entry[2] for entry in found.get_annotation_data_for_tier("phones")] == ["G", "UH", "D"]
        (media,) = found.get_linked_files()
        assert media["MEDIA_URL"].startswith("file:///")
        assert media["MEDIA_URL"].endswith("/talks/a%20b.wav")
        assert media["MIME_TYPE"] == "audio/x-wav"


def test_an_elan_document_keeps_the_order_and_the_references_of_its_schema():
    """EAFv3.0.xsd: the order of elements; time slots in time; every annotation between two slots that are there, once each."""
    root = ElementTree.fromstring(render("elan", RECORD))
    assert [child.tag for child in root] == ["HEADER", "TIME_ORDER", "TIER", "TIER", "LINGUISTIC_TYPE"]
    assert {"AUTHOR", "DATE", "FORMAT", "VERSION"} <= set(root.attrib)
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    kinds = {kind.get("LINGUISTIC_TYPE_ID") for kind in root.iter("LINGUISTIC_TYPE")}
    assert all(tier.get("LINGUISTIC_TYPE_REF") in kinds for tier in root.iter("TIER"))
    annotations = list(root.iter("ALIGNABLE_ANNOTATION"))
    assert len({one.get("ANNOTATION_ID") for one in annotations}) == len(annotations) == 8
    used = [one.get(f"TIME_SLOT_REF{end}") for one in annotations for end in (1, 2)]
    assert sorted(used) == sorted(slots)
    assert all(slots[one.get("TIME_SLOT_REF1")] < slots[one.get("TIME_SLOT_REF2")] for one in annotations)
    assert root.find("HEADER/PROPERTY").text == "8"


def test_characters_that_no_xml_can_hold_are_left_out():
    root = ElementTree.fromstring(render("elan", TimedRecord("u", 1.0, (Word("a\x00\x0b<b>\ufffe", 0.0, 1.0),))))
    assert root.find(".//ANNOTATION_VALUE").text == "a<b>"


# --- subtitles

SENTENCE = tuple(
    Word(word, 0.4 * place, 0.4 * place + 0.3) for place, word in enumerate(["the", "quick", "brown", "fox", "jumps"] * 8)
)
LATER = (Word("after", 30.0, 30.5), Word("x" * 60, 30.5, 31.0), Word("end", 3661.0, 3661.25))


@pytest.mark.parametrize(("form", "reader"), [("srt", "from_srt"), ("vtt", "read")])
@pytest.mark.parametrize("words", [WORDS, SENTENCE + LATER, ()], ids=["odd", "many", "none"])
def test_subtitles_are_read_back(form, reader, words, tmp_path):
    webvtt = pytest.importorskip("webvtt", reason="needs the extra dev")
    path = tmp_path / f"a.{form}"
    path.write_text(render(form, TimedRecord("u", 4000.0, words)), encoding="utf-8")
    if form == "srt" and not words:
        assert path.read_text() == "", "this reader takes an empty file for a mistake"
        return
    found = getattr(webvtt.WebVTT, reader)(str(path))
    expected = subtitles(words)
    assert len(found.captions) == len(expected)
    for caption, (start, end, lines) in zip(found.captions, expected):
        assert caption.start_in_seconds + caption.start_time.milliseconds / 1000 == pytest.approx(start / 1000)
        assert caption.end_in_seconds + caption.end_time.milliseconds / 1000 == pytest.approx(end / 1000)
        text = caption.text if form == "vtt" else caption.raw_text
        shown = "\n".join(lines) if form == "vtt" else "\n".join(lines).replace("-->", "->")
        assert text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == shown
    assert " ".join(line for _, _, lines in expected for line in lines) == " ".join(word.text for word in words)


@pytest.mark.parametrize(("form", "mark"), [("srt", ","), ("vtt", ".")])
def test_subtitles_by_the_letter(form, mark):
    """Blocks between blank lines: a number (SubRip), hours to milliseconds, one or two lines."""
    text = render(form, TimedRecord("u", 4000.0, SENTENCE + LATER))
    blocks = text.rstrip("\n").split("\n\n")
    if form == "vtt":
        assert blocks.pop(0) == "WEBVTT"
    clock = rf"(\d\d):([0-5]\d):([0-5]\d)\{mark}(\d{{3}})"
    last = 0
    for number, block in enumerate(blocks, 1):
        lines = block.split("\n")
        if form == "srt":
            assert lines.pop(0) == str(number)
        match = re.fullmatch(f"{clock} --> {clock}", lines.pop(0))
        values = [int(value) for value in match.groups()]
        start, end = (
            ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms for hours, minutes, seconds, ms in (values[:4], values[4:])
        )
        assert last <= start < end
        last = end
        assert 1 <= len(lines) <= 2
    assert blocks[-1].endswith("end")
    assert "01:01:01" in blocks[-1]


def test_subtitles_are_short_and_never_span_a_pause():
    for start, end, lines in subtitles(SENTENCE + LATER):
        assert end - start <= 7000
        assert len(lines) <= 2
        assert all(len(line) <= 42 for line in lines) or lines == ["x" * 60] or lines == ["after", "x" * 60]
    cues = subtitles(SENTENCE + LATER)
    assert [lines for start, _, lines in cues if start >= 30_000] == [["after", "x" * 60], ["end"]]
    assert subtitles([Word("one", 0, 1), Word("two", 1.9, 3)]) == [(0, 3000, ["one two"])]
    assert len(subtitles([Word("one", 0, 1), Word("two", 2.0, 3)])) == 2


# --- JSON


def test_json_holds_all_that_is_known():
    fields = json.loads(render("json", RECORD))
    assert (fields["id"], fields["duration"], fields["text"], fields["score"]) == ("talk/1 a", 5.0, "good morning", -3.25)
    assert fields["words"][2] == {"text": "<i>Zoë</i>", "start": 1.4, "end": 2.0, "confidence": None}
    assert [phone["text"] for phone in fields["phones"]] == ["G", "UH", "D"]
    failed = json.loads(render("json", TimedRecord("u", 1.0, (), error="was cut")))
    assert failed == {"id": "u", "duration": 1.0, "error": "was cut", "words": []}


def test_a_record_is_read_back_from_its_line_and_a_cut_line_is_none():
    line = RECORD.line().encode()
    assert parse_record(line) == RECORD
    assert [parse_record(line[:cut]) for cut in (0, 1, 30, len(line) - 1)] == [None] * 4
    assert parse_record(b'{"id": "u"}\n') is None
    assert parse_record(b"[]\n") is None
