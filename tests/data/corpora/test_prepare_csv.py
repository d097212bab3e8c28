"""Tables with any delimiter; a line that cannot be read is named, the others are not lost."""

from pathlib import Path

import pytest

from asr.data.corpora.table import TableOptions, prepare
from asr.errors import DataError, UsageError


@pytest.fixture
def root(tmp_path: Path, record) -> Path:
    for number in range(10):
        record(tmp_path / "clips" / f"c {number}.wav")
    return tmp_path


def options(**more) -> TableOptions:
    chosen = {"path_column": "path", "text_column": "sentence", "valid_fraction": 0.0, "test_fraction": 0.0, **more}
    return TableOptions(**chosen)


def table(root: Path, rows: list[str], name: str = "table.csv", header: str = "path,sentence") -> Path:
    (root / name).write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return root / name


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.txt", "\t"), ("a.psv", "|"), ("a.csv", "\t")]
)
def test_any_delimiter_any_end_of_line(root: Path, name: str, delimiter: str):
    rows = [delimiter.join(["x", f"clips/c {n}.wav", f'"Wörter{delimiter} ""{n}"""', f"s{n % 5}"]) for n in range(10)]
    text = "\r\n".join([delimiter.join(["client", "path", "sentence", "who"]), *rows])
    (root / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    prepared = prepare(root / name, options(speaker_column="who", valid_fraction=0.2, test_fraction=0.2))
    assert prepared.problems == []
    assert {part: len(items) for part, items in prepared.parts.items()} == {"train": 6, "valid": 2, "test": 2}
    item = next(item for items in prepared.parts.values() for item in items if item.id == "clips/c 3")
    assert item.text == " ".join(f'Wörter{delimiter} "3"'.split())
    assert (item.speaker, item.duration) == ("s3", 0.25)


def test_a_column_names_the_parts_and_the_ids(root: Path):
    parts = ["train"] * 6 + ["validation", "dev", "TEST", "other"]
    rows = [f"clips/c {n}.wav,text {n},{parts[n]},id{n}" for n in range(10)]
    path = table(root, rows, header="path,sentence,split,key")
    prepared = prepare(path, options(split_column="split", id_column="key"))
    assert {part: [item.id for item in items] for part, items in prepared.parts.items()} == {
        "train": [f"id{n}" for n in range(6)],
        "valid": ["id6"],
        "dev": ["id7"],
        "test": ["id8"],
    }
    assert [(p.kind, Path(p.where).name) for p in prepared.problems] == [("unknown-part", "table.csv:11")]
    assert "split is 'other', expected one of train, valid, dev, test" in prepared.problems[0].message


def test_every_bad_line_is_named_with_its_number(root: Path):
    rows = [
        "clips/c 0.wav,fine",
        "clips/c 1.wav,a comma, too many",
        'clips/c 2.wav,"a quote" inside',
        "",
        "clips/gone.wav,missing",
        ",no path",
        'clips/c 3.wav,"over',
        'two lines"',
        "clips/c 0.wav,twice",
        "clips/c 4.wav,fine",
        'clips/c 5.wav,"never closed',
        "clips/c 6.wav,lost",
    ]
    prepared = prepare(table(root, rows), options())
    assert [item.id for item in prepared.parts["train"]] == ["clips/c 0", "clips/c 4"]
    told = {int(p.where.rpartition(":")[2]): (p.kind, p.message) for p in prepared.problems}
    assert {line: kind for line, (kind, _) in told.items()} == {
        3: "bad-row",
        4: "bad-row",
        6: "missing-file",
        7: "missing-path",
        8: "bad-row",
        10: "duplicate-id",
        12: "bad-row",
    }
    assert "3 cells, the header has 2" in told[3][1]
    assert "quotation marks do not match" in told[4][1]
    assert "runs on to line 9" in told[8][1]
    assert "table.csv:2" in told[10][1]
    assert "lines 12 to 13 were not read" in told[12][1]


def test_quotes_may_be_ordinary_characters(root: Path):
    path = table(root, ['clips/c 0.wav\t"Halt, rief er', 'clips/c 1.wav\tdas „Ende"'], "t.tsv", "path\tsentence")
    assert [p.kind for p in prepare(path, options()).problems] == ["bad-row"]
    prepared = prepare(path, options(quotes="none"))
    assert [item.text for item in prepared.parts["train"]] == ['"Halt, rief er', 'das „Ende"']
    with pytest.raises(UsageError, match="--quotes: expected standard or none, got 'double'"):
        options(quotes="double")


def test_paths_start_from_root_when_the_table_lies_elsewhere(root: Path, tmp_path: Path):
    elsewhere = tmp_path / "tables"
    elsewhere.mkdir()
    path = table(elsewhere, ["c 0.wav,a", f"{root}/clips/c 1.wav,b"])
    prepared = prepare(root / "clips", options(table=str(path)))
    assert [Path(item.audio_filepath).name for item in prepared.parts["train"]] == ["c 0.wav", "c 1.wav"]
    inside = table(root / "clips", ["c 0.wav,a"], "inside.csv")
    assert prepare(root / "clips", options(table="inside.csv")) == prepare(inside, options())


def test_wrong_columns_are_told_with_those_there_are(root: Path):
    path = table(root, ["clips/c 0.wav,a"])
    for chosen, message in (
        ({"text_column": ""}, "--text-column is missing; the columns of .* are path, sentence"),
        ({"path_column": ""}, "--path-column is missing"),
        ({"text_column": "text"}, "--text-column: .* has no column 'text'; it has path, sentence"),
        ({"speaker_column": "who"}, "--speaker-column: .* has no column 'who'"),
    ):
        with pytest.raises(UsageError, match=message):
            prepare(path, options(**chosen))
    with pytest.raises(UsageError, match="more than one column 'path'"):
        prepare(table(root, ["a,b"], header="path,path"), options(text_column="path"))


def test_what_is_no_table_is_refused(root: Path):
    with pytest.raises(DataError, match="no such file"):
        prepare(root / "absent.csv", options())
    with pytest.raises(UsageError, match=r"is a folder, expected the table itself: --root TABLE.csv"):
        prepare(root, options())
    table(root, [])
    with pytest.raises(UsageError, match=r"expected the table itself: --root .*table\.csv"):
        prepare(root, options())
    with pytest.raises(DataError, match="has a header and no line below it"):
        prepare(root / "table.csv", options())
    (root / "empty.csv").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        prepare(root / "empty.csv", options())
    (root / "wide.csv").write_text("path,sentence\n", "utf-16")
    with pytest.raises(DataError, match="is UTF-16 text"):
        prepare(root / "wide.csv", options())


def test_empty_cells_of_text_are_kept_and_told(root: Path):
    prepared = prepare(table(root, ["clips/c 0.wav,", "clips/c 1.wav,b"]), options())
    assert [item.text for item in prepared.parts["train"]] == ["", "b"]
    assert prepared.notes[0].startswith("8 recordings beside those that are named are not used: c 2.wav, c 3.wav")
    assert prepared.notes[1:] == ["empty transcripts: 1 (clips/c 0)"]
