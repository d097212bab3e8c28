"""What a picture leaves behind: PNG files, the numbers as CSV, and one HTML page that needs nothing but itself."""

import base64
import csv
import html
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr import __version__
from asr.data.files import write_atomic

Cell = str | int | float | None

#: Rows of one table that the page shows; the CSV file holds all.
SHOWN_ROWS = 200


@dataclass(frozen=True)
class Picture:
    """One PNG. name: file name without ending. caption: what is seen, in plain sentences."""

    name: str
    title: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Table:
    """Numbers with a head. name: of the CSV file without ending; "" for a table that only the page shows."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """Everything one look inside found. name: the page's file name without ending. facts: what was looked at, and how."""

    name: str
    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    #: what the terminal shows, a few lines
    summary: str = ""


STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 78rem; padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif; }
body { color: #1a1a1a; background: #fff; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p, figcaption { max-width: 60rem; } figure { margin: 1rem 0; } figcaption { color: #444; }
img { max-width: 100%; height: auto; border: 1px solid #ddd; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; }
dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow: auto; max-height: 32rem; border: 1px solid #ddd; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th { position: sticky; top: 0; background: #f4f4f4; } th.text, td.text { text-align: left; }
footer { margin-top: 3rem; color: #666; font-size: .85rem; }
"""


def write_report(report: Report, out: str | os.PathLike[str]) -> list[str]:
    """Write the page, its pictures and its tables into the folder `out`; returns the paths, the page first.

    Files of the same names are replaced; others are left alone. Raises ResourceError and UsageError as `write_atomic` does.
    """
    folder = Path(out)
    contents: dict[str, bytes | str] = {f"{report.name}.html": html_page(report)}
    contents.update({f"{picture.name}.png": picture.png for picture in report.pictures})
    contents.update({f"{table.name}.csv": csv_text(table) for table in report.tables if table.name})
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [str(folder / name) for name in contents]


def csv_text(table: Table) -> str:
    """The table as CSV: a head, full precision, an empty field for what is not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([["" if _unknown(value) else value for value in row] for row in table.rows])
    return text.getvalue()


def html_page(report: Report) -> str:
    """The page; pictures stand in it as data, and nothing is loaded from anywhere."""
    facts = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in report.facts)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(report.title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{_text(report.title)}</h1>",
        *(f"<p>{_text(paragraph)}</p>" for paragraph in report.lead.split("\n\n")),
        f"<dl>{facts}</dl>",
        *(_figure(picture) for picture in report.pictures),
        *(_table(table) for table in report.tables),
        f"<footer>Made by asr-inspect {_text(report.name)}, asr {__version__}.</footer></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<h2>{_text(picture.title)}</h2>\n<figure><img alt="{_text(picture.title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_text(picture.caption)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    numeric = [all(not isinstance(row[column], str) for row in table.rows) for column in range(len(table.columns))]

    def cells(values: Sequence[Cell], tag: str) -> str:
        return "".join(
            f"<{tag}>{_text(shown(value))}</{tag}>" if number else f'<{tag} class="text">{_text(shown(value))}</{tag}>'
            for value, number in zip(values, numeric)
        )

    rows = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows[:SHOWN_ROWS])
    notes = [table.note] if table.note else []
    if len(table.rows) > SHOWN_ROWS:
        notes.append(f"The first {SHOWN_ROWS} of {len(table.rows)} rows; {table.name}.csv holds all.")
    elif table.name:
        notes.append(f"The same numbers at full precision: {table.name}.csv.")
    head = f"<thead><tr>{cells(table.columns, 'th')}</tr></thead>"
    return (
        f"<h2>{_text(table.title)}</h2>\n<p>{_text(' '.join(notes))}</p>\n"
        f'<div class="scroll"><table>{head}<tbody>\n{rows}\n</tbody></table></div>'
    )


def shown(value: Cell) -> str:
    """A value as a reader sees it: four significant digits, nothing for what is not known."""
    if value is None or _unknown(value):
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _unknown(value: Cell) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(text: str) -> str:
    """Text for HTML; half characters from an odd file name are written as their code."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))
