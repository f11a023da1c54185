"""A program of its own: the bytes of a feed on stdin, its items as JSON on stdout.

feedparser needs time in the square of the length for some documents (40 kB of blank lines: six seconds, 10 MB: days)
and raises on others, so `pipeline.providers.rss` runs it where it can be stopped. It is started by its path and
imports little, because pandas would take longer to load than a feed to read.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import sys
from html import unescape
from html.parser import HTMLParser
from typing import Any

import feedparser

TITLE, SUMMARY = 1_000, 2_000
"""Characters kept of a title and of a summary."""
MARKUP = 20_000
"""Characters of markup looked at for one title or summary."""
MEMORY, MEMORY_A_BYTE = 512 * 2**20, 40
"""Bytes of memory to parse with, and more for each byte of the feed; one of news items takes 20 a byte."""
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0?\0", "utf-16-le"), (b"\0<\0?", "utf-16-be"),
)  # fmt: skip
CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';]+)", re.IGNORECASE)
DECLARED = re.compile(rb"\s*<\?xml[^>]{0,200}?\sencoding\s*=\s*[\"']([A-Za-z0-9._:-]+)")
# No feed needs these. Without them nothing can be expanded: not by expat, not by feedparser's own parser.
DEFINITION = re.compile(r"<!(?:ENTITY|ATTLIST|ELEMENT|NOTATION)\b")
ITEM = re.compile(r"<(/?)(?:\w+:)?(?:item|entry)\b", re.IGNORECASE)
DATES = ("published", "updated", "created")
BREAKS = frozenset(("blockquote", "br", "dd", "div", "dt", "h1", "h2", "h3", "h4", "hr", "li", "p", "pre", "td", "tr"))
HIDDEN = frozenset(("script", "style", "template"))


def read(body: bytes, content_type: str, location: str) -> dict[str, Any]:
    """The items of a feed.

    Args:
        body: RSS or Atom, or anything.
        content_type: the header it came with, '' if none.
        location: its address, for relative links.

    Returns:
        refused: why the document is not parsed, or ''; version: '' if it is no feed; damage: what is wrong with its
        XML, or ''; encoding: what is wrong with its encoding, or ''; begins: its first characters; entries: title and
        summary as plain text, cut: whether the title was, link, guid, published (UTC, '' if unknown), date (as given);
        breaks_off: whether the document ends within the last of them.
    """
    text, encoding = decoded(body, content_type)
    found = DEFINITION.search(text)
    if found:
        return {"refused": f"defines entities or elements of its own ({found[0]})"}
    feed = feedparser.parse(
        # Bytes themselves would be tried as a file name, and text as an address.
        io.BytesIO(text.encode("utf-8", "replace")),
        response_headers={"content-type": "application/xml; charset=utf-8", "content-location": location},
        resolve_relative_uris=False,
        sanitize_html=False,  # the markup is removed anyhow
    )
    return {
        "refused": "",
        "version": feed.get("version", ""),
        "damage": _damage(feed.get("bozo_exception")) if feed.get("bozo") else "",
        "encoding": encoding,
        "begins": " ".join(text[:80].split()),
        "entries": [_item(entry) for entry in feed.entries],
        "breaks_off": bool(feed.get("bozo")) and _is_open(text),
    }


def decoded(body: bytes, content_type: str) -> tuple[str, str]:
    """The text of a document: by its byte-order mark, the header, its XML declaration, else UTF-8 or Windows-1252.

    Returns:
        The text without blanks in front; what was wrong with the encoding, or ''.
    """
    for mark, name in MARKS:
        if body.startswith(mark):
            return body.decode(name, "replace").lstrip(), ""
    declared = [found[1] for found in (CHARSET.search(content_type),) if found]
    declared += [found[1].decode("ascii") for found in (DECLARED.match(body),) if found]
    for name in (*declared, "utf-8", "windows-1252"):
        try:
            text = body.decode(name).lstrip()
        except (LookupError, ValueError):
            continue
        # A declaration that could be read byte by byte is not UTF-16, whatever it says.
        if text.startswith("<") or not body.lstrip().startswith(b"<"):
            wrong = declared and name not in declared
            return text, f"is declared as {declared[0]} but is not; read as {name}" if wrong else ""
    return body.decode("utf-8", "replace").lstrip(), "is in no known encoding; read as utf-8 with gaps"


def plain(markup: str, length: int) -> str:
    """The text of HTML: no tags, entities resolved, blanks collapsed, no more than `length` characters."""
    markup = markup[:MARKUP]
    if "<" in markup:
        try:
            markup = _Text.of(markup)
        except AssertionError:  # how html.parser reports a declaration that it does not understand
            markup = unescape(markup)
    elif "&" in markup:
        markup = unescape(markup)
    return " ".join(markup.split())[:length].rstrip()


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.hidden = 0

    @classmethod
    def of(cls, markup: str) -> str:
        parser = cls()
        parser.feed(markup)
        parser.close()
        return "".join(parser.pieces)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in HIDDEN
        self._break(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in HIDDEN))
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.pieces.append(data)

    def _break(self, tag: str) -> None:
        if tag in BREAKS:
            self.pieces.append(" ")


def _is_open(text: str) -> bool:
    last = "/"
    for found in ITEM.finditer(text):
        last = found[1]
    return not last


def _item(entry: Any) -> dict[str, Any]:
    content = entry.get("content") or [{}]
    title = plain(_text(entry, "title"), TITLE + 1)
    return {
        "title": title[:TITLE].rstrip(),
        "summary": plain(_text(entry, "summary") or str(content[0].get("value") or ""), SUMMARY),
        "cut": len(title) > TITLE,
        "link": _text(entry, "link").strip(),
        "guid": _text(entry, "id").strip(),
        "published": next(filter(None, (_instant(entry.get(f"{name}_parsed")) for name in DATES)), ""),
        "date": next(filter(None, (_text(entry, name) for name in DATES)), ""),
    }


def _text(entry: Any, name: str) -> str:
    # An element with attributes that feedparser does not expect becomes a dictionary.
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def _instant(parsed: Any) -> str:
    """feedparser's times are UTC; those of a date without a zone count as such."""
    return "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}Z".format(*parsed[:6]) if parsed else ""


def _damage(error: Any) -> str:
    said = getattr(error, "getMessage", lambda: str(error))()
    line = getattr(error, "getLineNumber", lambda: None)()
    return f"{said} in line {line}" if line else str(said)


def _limit_memory(most: int) -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    """One line of JSON (content_type, location), then the body, on stdin."""
    head = json.loads(sys.stdin.buffer.readline())
    body = sys.stdin.buffer.read()
    _limit_memory(MEMORY + MEMORY_A_BYTE * len(body))
    found = read(body, head["content_type"], head["location"])
    # Half a surrogate pair is no text: nothing could store it.
    sys.stdout.buffer.write(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))


if __name__ == "__main__":
    main()
