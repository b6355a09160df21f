"""Lists of URLs of every kind, of our own making, and readers for the tests of `urls`."""

from __future__ import annotations

import io
import os
import resource
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import addresses, urls, worker
from pipeline.records import Line
from pipeline.urls.formats import items
from pipeline.urls.items import Entry, Item
from pipeline.urls.streams import decoded

SECRET = b"a secret of the database"
CHECK = partial(addresses.check_url, policy=addresses.AddressPolicy(allow_private=True))

RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"><channel>
<title>Notes from the reservoir</title><link>http://a.example/</link>
<item><title>Second</title><link>http://a.example/2?a=1&amp;b=2</link>
<pubDate>Mon, 02 Nov 2026 10:00:00 GMT</pubDate></item>
<item><title>First</title><link><![CDATA[ http://a.example/1?a=1&b=2 ]]></link></item>
</channel></rss>
"""
ATOM = """<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xml:base="http://b.example/blog/">
<title>A blog</title><link rel="self" href="feed.atom"/>
<entry><title>One</title><link rel="alternate" href="one.html"/><updated>2026-11-02T10:00:00Z</updated></entry>
<entry xml:base="/other/"><title>Two</title><link href="two.html"/><published>2026-10-02</published></entry>
</feed>
"""
RDF = """<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/">
<channel rdf:about="http://c.example/"><title>Old news</title><link>http://c.example/</link></channel>
<item rdf:about="http://c.example/1"><title>One</title><link>http://c.example/1</link></item>
</rdf:RDF>
"""
SITEMAP = """<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
<url><loc> http://a.example/?a=1&amp;b=2 </loc><lastmod>2026-11-02</lastmod>
<image:image><image:loc>http://a.example/picture.png</image:loc></image:image></url>
<url><loc><![CDATA[http://a.example/2]]></loc></url>
</urlset>
"""
INDEX = """<?xml version="1.0" encoding="UTF-8"?>
<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
<sitemap><loc>http://a.example/sitemap-1.xml</loc><lastmod>2026-11-02T00:00:00Z</lastmod></sitemap>
<sitemap><loc>http://a.example/sitemap-2.xml</loc><lastmod>2020-01-01</lastmod></sitemap>
</sitemapindex>
"""
OPML = """<?xml version="1.0" encoding="UTF-8"?>
<opml version="2.0"><head><title>Subscriptions</title></head><body>
<outline text="Water"><outline text="Rivers">
<outline type="rss" text="A river" xmlUrl="http://a.example/feed?a=1&amp;b=2" htmlUrl="http://a.example/"
 category="/news/local,water"/>
</outline></outline>
<outline type="link" text="A page" url="http://b.example/page"/>
</body></opml>
"""
BOOKMARKS = """<!DOCTYPE NETSCAPE-Bookmark-file-1>
<!-- This is an automatically generated file. -->
<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset=UTF-8">
<TITLE>Bookmarks</TITLE>
<H1>Bookmarks</H1>
<DL><p>
    <DT><H3 ADD_DATE="1" PERSONAL_TOOLBAR_FOLDER="true">Toolbar</H3>
    <DL><p>
        <DT><A HREF="http://a.example/?a=1&amp;b=2" ADD_DATE="1" TAGS="water,two words">A &amp; B</A>
        <DT><H3>물 &amp; 강</H3>
        <DL><p>
            <DT><A HREF="http://a.example/inner">Inner</A>
            <DD>What it says of it
        </DL><p>
        <DT><A HREF="http://a.example/after">After the folder</A>
        <DT><A HREF="javascript:(()=>{if(1>0){alert('<a href=x>')}})()">A small program</A>
        <DT><A HREF="place:sort=8&amp;maxResults=10">Often visited</A>
        <DT><A HREF="file:///etc/passwd">A file</A>
        <DT><A HREF="chrome://settings/">Settings</A>
        <DT><A HREF="moz-extension://0/x.html">An extension</A>
    </DL><p>
    <DT><A HREF="ftp://a.example/file">Not of the web</A>
</DL><p>
"""
MARKDOWN = """# Reading

Some [inline](http://a.example/1), some <http://a.example/2>, some by [reference][one], and http://a.example/3.

## Later

- [x] [**bold**](http://a.example/4 "with a title")
- ![a picture](http://a.example/picture.png)
- [![a picture that is a link](http://a.example/picture.png)](http://a.example/5)

Code:

    http://a.example/code

`http://a.example/code` and [mail](mailto:a@a.example) and [beside](other.md) and [above](#reading)

```
http://a.example/code
```

[one]: http://a.example/6
[never used]: http://a.example/7
"""


def found(text: str | bytes, base: str = "") -> list[Item]:
    """The items of a list of whatever kind."""
    data = text.encode() if isinstance(text, str) else text
    with decoded(io.BytesIO(data)) as source:
        return list(items(source, base))


def entries(text: str | bytes, base: str = "") -> list[Entry]:
    return [item for item in found(text, base) if isinstance(item, Entry)]


def urls_in(text: str | bytes, base: str = "") -> list[str]:
    return [entry.url for entry in entries(text, base)]


def read(path: Path | str, **terms: Any) -> list[Line]:
    """The lines of one source."""
    return list(urls.read([str(path)], CHECK, SECRET, **terms))


class Made(io.RawIOBase):
    """A stream that is made while it is read: `line(number)` for each number, `lines` of them or without end."""

    def __init__(self, line: Callable[[int], str], lines: int | None = None) -> None:
        self._line = line
        self._lines = lines
        self._next = 0
        self._rest = b""
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(self._rest) < len(buffer) and self._next != self._lines:
            self._rest += self._line(self._next).encode()
            self._next += 1
        data = self._rest[: len(buffer)]
        self._rest = self._rest[len(data) :]
        buffer[: len(data)] = data
        self.bytes_read += len(data)
        return len(data)


# What a process apart does: it finds these by the name of their module.


def apart_sleeps() -> None:
    signal.pause()


def apart_takes_memory() -> int:
    return len(bytes(worker.BYTES * 2))


def apart_crashes() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def apart_limit() -> int:
    """Of processor time, in seconds."""
    return resource.getrlimit(resource.RLIMIT_CPU)[0]
