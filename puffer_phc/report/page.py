"""Pieces of HTML for pages that load nothing from elsewhere: style and scripts stand inside them, pictures as data."""

import base64
import html
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

_STATIC = Path(__file__).resolve().parent / "static"


def text(value: object) -> str:
    """``value`` with what HTML would take for its own made harmless."""
    return html.escape(str(value))


def static(name: str) -> str:
    """A style sheet or script of this package."""
    return (_STATIC / name).read_text(encoding="utf-8")


def document(title: str, body: str, scripts: Sequence[str] = ()) -> str:
    """A whole page with ``body`` inside its main element and ``scripts`` at its end."""
    code = "".join(f"<script>\n{script}\n</script>\n" for script in scripts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f'<title>{text(title)}</title>\n<link rel="icon" href="data:,">\n<style>\n{static("page.css")}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n{code}</body>\n</html>\n"
    )


def data_uri(content: bytes, kind: str) -> str:
    """``content`` as an address, ``kind`` as in ``image/png``."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def picture(content: bytes, kind: str, description: str) -> str:
    """An image that is part of the page."""
    return f'<img alt="{text(description)}" src="{data_uri(content, kind)}">'


def chart(svg: bytes, description: str) -> str:
    """A drawing that is part of the page."""
    return picture(svg, "image/svg+xml", description)


def literal(value: Any) -> str:
    """``value`` as JavaScript that can't end the script that it stands in."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")


def section(heading: str, *parts: str) -> str:
    """A framed part of the page."""
    return f"<section>\n<h2>{text(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def card(value: str, unit: str, label: str, note: str = "") -> str:
    """A large figure over what it is; ``note`` is HTML."""
    under = f"<i>{note}</i>" if note else ""
    return f'<div class="card"><b>{text(value)} <small>{text(unit)}</small></b><span>{text(label)}</span>{under}</div>'


def facts(pairs: Dict[str, str]) -> str:
    """Names and values under each other."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs.items()) + "</dl>"


class Column(NamedTuple):
    """A column of a table."""

    heading: str
    hint: str = ""
    first: str = "down"
    """Direction of the first sorting, up or down."""


class Cell(NamedTuple):
    """A cell: what is shown, and what is sorted by where that is not the text itself (None: no value, sorted last)."""

    html: str
    value: Optional[object] = ""


class Row(NamedTuple):
    """A row; the boxes over a table choose rows by their ``kinds``."""

    cells: Sequence[Cell]
    kinds: Sequence[str] = ()


def table(name: str, columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A table with id ``name`` whose headings sort it."""
    head = "".join(
        f'<th scope="col" data-sort="{column.first}" title="{text(column.hint)}">'
        f'<button type="button">{_breakable(column.heading)}</button></th>'
        for column in columns
    )
    body = "\n".join(f'<tr data-kinds="{" ".join(row.kinds)}">{"".join(_cell(cell) for cell in row.cells)}</tr>' for row in rows)
    return f'<div class="scroll"><table id="{name}"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _breakable(name: str) -> str:
    """``name`` as HTML that may go on in the next line after an underscore."""
    return text(name).replace("_", "_<wbr>")


def _cell(cell: Cell) -> str:
    value = "" if cell.value == "" else f' data-value="{"" if cell.value is None else text(cell.value)}"'
    return f"<td{value}>{cell.html}</td>"


def filters(name: str, kinds: Dict[str, str], has_search: bool = True) -> str:
    """A search box and a choice of ``kinds`` (what is shown for each) over the table ``name``, which is the word for its rows too.

    The box looks for names in the first column; tables without names go without it.
    """
    options: List[str] = [f'<option value="{text(kind)}">{text(label)}</option>' for kind, label in kinds.items()]
    search = f'<input type="search" id="{name}-search" placeholder="part of a name" aria-label="filter by name">' if has_search else ""
    return (
        f'<div class="tools">{search}'
        f'<select id="{name}-kind" aria-label="which {name}">{"".join(options)}</select><span class="quiet" id="{name}-count"></span></div>'
    )


def table_script(name: str) -> str:
    """What makes the table ``name`` and its ``filters`` work."""
    found = ", ".join(f'document.getElementById("{name}{part}")' for part in ("", "-search", "-kind", "-count"))
    return f'sortable(document.getElementById("{name}"));\nfilterable({found});'
