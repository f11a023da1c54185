"""Malformed and hostile feeds: none raises, hangs, expands, reads a file, or loses an item silently."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.providers.feed_reader import SUMMARY, TITLE, decoded, plain
from tests.pipeline.providers.feed_server import Answer, Server, feed, feeds_of, had, item, running

ITEMS = feed(item("Größe €uro"), item("Two", "https://x.test/2"))
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
DOCTYPE = {
    "laughs": f'<!DOCTYPE rss [<!ENTITY l0 "lol">{LAUGHS}]>',
    "quadratic": f'<!DOCTYPE rss [<!ENTITY l9 "{"a" * 100_000}">]>',
    "parameter": '<!DOCTYPE rss [<!ENTITY % p SYSTEM "http://127.0.0.1:{port}/dtd">%p;]>',
    "file": '<!DOCTYPE rss [<!ENTITY l9 SYSTEM "file://{secret}">]>',
    "network": '<!DOCTYPE rss [<!ENTITY l9 SYSTEM "http://127.0.0.1:{port}/dtd">]>',
    "attributes": f'<!DOCTYPE rss [<!ATTLIST item x CDATA "{"a" * 100_000}">]>',
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as one:
        yield one


def given_titles(server: Server, body: bytes | str | Answer) -> tuple[list[str], str]:
    """The titles, and what was noted without the address."""
    url = server.on(body)
    delivery = had(feeds_of(url))
    assert delivery.failed == {}
    return delivery.news["title"].tolist(), "; ".join(note.removeprefix(f"{url}: ") for note in delivery.notes)


def why(server: Server, body: bytes | str, **settings: float) -> str:
    url = server.on(body)
    delivery = had(feeds_of(url, **settings))
    assert delivery.news.empty
    assert delivery.state == {}
    return delivery.failed[url]


# Encodings


@pytest.mark.parametrize(
    "body",
    [
        ITEMS.encode(),
        b"\xef\xbb\xbf" + ITEMS.encode(),
        b"\n\n  " + ITEMS.encode(),
        ITEMS.replace("utf-8", "utf-16").encode("utf-16"),
        ITEMS.replace("utf-8", "utf-16").encode("utf-16-le"),
        ITEMS.replace("utf-8", "utf-16").encode("utf-16-be"),
        ITEMS.encode("utf-32"),
        ITEMS.replace("utf-8", "iso-8859-15").encode("iso-8859-15"),
        ITEMS.replace("utf-8", "windows-1252").encode("windows-1252"),
        ITEMS.replace(' encoding="utf-8"', "").encode(),
        Answer(ITEMS.replace("utf-8", "ascii").encode("cp1252"), headers={"Content-Type": "text/xml; charset=cp1252"}),
    ],
    ids=["utf8", "bom", "blanks", "utf16", "utf16le", "utf16be", "utf32", "latin9", "cp1252", "undeclared", "header"],
)  # fmt: skip
def test_encodings(server: Server, body: bytes | Answer) -> None:
    assert given_titles(server, body) == (["Größe €uro", "Two"], "")


@pytest.mark.parametrize(
    ("body", "note"),
    [
        (ITEMS.encode("cp1252"), "is declared as utf-8 but is not; read as windows-1252"),
        (ITEMS.replace("utf-8", "utf-16").encode(), "is declared as utf-16 but is not; read as utf-8"),
        (ITEMS.replace("utf-8", "no-such").encode(), "is declared as no-such but is not; read as utf-8"),
        (ITEMS.replace("utf-8", "base64").encode(), "is declared as base64 but is not; read as utf-8"),
    ],
)
def test_wrong_encodings(server: Server, body: bytes, note: str) -> None:
    assert given_titles(server, body) == (["Größe €uro", "Two"], note)


def test_bytes_of_no_encoding(server: Server) -> None:
    titles, note = given_titles(server, feed(item("ok?")).encode().replace(b"?<", b"\x81\xff<"))
    assert titles == ["ok\ufffd\ufffd"]
    assert note == "is in no known encoding; read as utf-8 with gaps"


# Documents


def test_damaged_documents_are_used_and_noted(server: Server) -> None:
    body = feed(*(item(f"No {n}", f"https://x.test/{n}") for n in range(50)))
    url = server.on(body[: body.index("https://x.test/25") + 9])
    delivery = had(feeds_of(url))
    assert delivery.news["title"].tolist() == [f"No {n}" for n in range(25)]
    assert delivery.notes == (f"{url}: malformed (no element found in line 1); items that could be read: 26",)
    (half,) = delivery.rejected
    assert (half.reason, json.loads(half.row)["title"]) == ("the feed breaks off within this item", "No 25")


def test_sloppy_documents_are_used_and_noted(server: Server) -> None:
    titles, note = given_titles(server, feed(item("A"), "<item><title>R&D &nbsp; up</title>", item("B", "https://x/2")))
    assert "A" in titles
    assert "malformed (" in note


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is no RSS or Atom feed: an empty document"),
        (b"\0\0\0", "is no RSS or Atom feed: "),
        ("<!DOCTYPE html><html><body>Sign in</body></html>", "is no RSS or Atom feed: <!DOCTYPE html><html>"),
        ('{"items": []}', 'is no RSS or Atom feed: {"items": []}'),
        ("<opml><body/></opml>", "is no RSS or Atom feed: <opml>"),
        ("/etc/passwd", "is no RSS or Atom feed: /etc/passwd"),
        ("http://127.0.0.1/feed", "is no RSS or Atom feed: http://127.0.0.1/feed"),
        (feed()[:60], "is malformed, and no item could be read: "),
        ("<rss><channel><item><title>&#99999999999;</title></item>&", "cannot be parsed (OverflowError"),
    ],
)
def test_what_is_no_feed(server: Server, body: bytes | str, said: str) -> None:
    assert why(server, body).startswith(said)


def test_a_line_of_ten_megabytes(server: Server) -> None:
    titles, note = given_titles(server, feed(item("A" * 9_900_000)))
    assert titles == ["A" * TITLE]
    assert note == "titles too long, cut: 1"


def test_what_takes_too_long_is_stopped(server: Server) -> None:
    body = '<?xml version="1.0"?>' + "\n" * 500_000 + "<rss></rss>"
    started = time.monotonic()
    assert why(server, body, parsing=1.0) == f"could not be parsed within 1 s ({len(body):,} bytes)"
    assert time.monotonic() - started < 5


def test_what_takes_too_much_memory_is_stopped(server: Server) -> None:
    deeper = f"<a xml:base='{'a' * 4_000}/'>"  # every address holds all those around it
    said = why(server, "<rss><channel>" + deeper * 800)
    assert said == "cannot be parsed (MemoryError)"


# Entities


@pytest.mark.parametrize("kind", DOCTYPE)
@pytest.mark.parametrize("start", ['<?xml version="1.0"?>', "", '<?xml version="1.0"?>\n<!-- <a --> \n', "junk"])
def test_entities_are_refused(server: Server, tmp_path: Path, kind: str, start: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("do not read")
    doctype = DOCTYPE[kind].replace("{port}", str(server.server_address[1])).replace("{secret}", str(secret))
    body = start + doctype + '<rss version="2.0"><channel><item><title>&l9;</title></item></channel></rss>'
    started = time.monotonic()
    said = why(server, body)
    assert said.startswith("is refused: its document defines entities or elements of its own (<!")
    assert time.monotonic() - started < 5
    assert server.asked["/dtd"] == []


@pytest.mark.parametrize("codec", ["utf-16", "utf-32", "utf-7", "cp037"])
def test_entities_are_refused_in_any_encoding(server: Server, codec: str) -> None:
    text = f'<?xml version="1.0" encoding="{codec}"?>{DOCTYPE["laughs"]}<rss><channel/></rss>'
    body = Answer(text.encode(codec), headers={"Content-Type": f"text/xml; charset={codec}"})
    url = server.on(body)
    assert "defines entities" in had(feeds_of(url)).failed[url]


def test_a_document_type_elsewhere_is_neither_asked_for_nor_a_fault(server: Server) -> None:
    doctype = f'<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "{server.url("/dtd")}">'
    body = ITEMS.replace("?>", f"?>\n{doctype}\n", 1)
    assert given_titles(server, body)[0] == ["Größe €uro", "Two"]
    assert server.asked["/dtd"] == []


# Anything


PIECES = st.sampled_from(
    [
        b"<", b">", b"&", b"'", b'"', b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"<!--", b"]]>", b"<![CDATA[",
        b"<?xml version='1.0' encoding='", b"utf-7", b"'?>", b"<!DOCTYPE a [", b"<!ENTITY a 'b'>", b"&a;", b"&#xD800;",
        b"<rss version='2.0'>", b"<channel>", b"<item>", b"<title>", b"</title>", b"<link>", b"</item>", b"<pubDate>",
        b"<feed xmlns='http://www.w3.org/2005/Atom'>", b"<entry>", b"<link href='", b"<content type='base64'>",
        b"Fri, 99 Foo 99999 99:99:99 +9999", b"0000-00-00", b"9999-12-31T23:59:60-23:59", b"</pubDate>", b"<dc:date>",
        b"<title type='html'>", b"Apple $AAPL", b"<![if",
    ]
)  # fmt: skip
BODIES = st.one_of(st.binary(max_size=400), st.lists(PIECES | st.binary(max_size=4), max_size=40).map(b"".join))
TOLD = ("is no RSS or Atom feed: ", "is refused: ", "is malformed, and no item", "cannot be parsed (")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=BODIES, content_type=st.sampled_from(["", "text/xml", "text/xml; charset=", "application/xml; charset=\xe9"])
)
def test_any_bytes(server: Server, body: bytes, content_type: str) -> None:
    url = server.on(Answer(body, headers={"Content-Type": content_type}))
    delivery = had(feeds_of(url, companies={"AAPL": ["Apple"]}))
    if delivery.failed:
        assert delivery.failed[url].startswith(TOLD)
    rows = (*delivery.news["title"], *(row.row for row in delivery.rejected))
    assert "".join(rows).encode().decode() == "".join(rows)


@settings(max_examples=300, deadline=None)
@given(body=BODIES, content_type=st.text(max_size=20).map(lambda text: f"text/xml; charset={text}"))
def test_any_bytes_become_text(body: bytes, content_type: str) -> None:
    text, said = decoded(body, content_type)
    assert isinstance(text, str)
    assert isinstance(said, str)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES.map(lambda piece: piece.decode("latin-1")) | st.text(max_size=5)).map("".join))
def test_any_markup_becomes_one_line(markup: str) -> None:
    text = plain(markup, SUMMARY)
    assert text == " ".join(text.split())
    assert len(text) <= SUMMARY
