"""Lists of URLs into lines, lazily; told apart by what stands in them.

::

    source ── streams ──> kinds ──> plain | markdown | bookmarks | feeds | sitemaps | outlines ── lines ──> Line
              (text)      (Kind)                       (Entry, LeftOut)                          (keys)

A source is a file, `-`, a URL (which is a page), or `list:URL` (a list that lies on the web). A line that is no URL
becomes a `Line` with a reason, so that it is accounted for like every other.
"""

from __future__ import annotations

from pipeline.urls.formats import entries, is_list
from pipeline.urls.items import Entry, Unreadable
from pipeline.urls.keys import TRACKING_PARAMETERS, host_of, normal_form
from pipeline.urls.lines import Check, masked, parse, shown
from pipeline.urls.sources import LIST_PREFIX, Fetch, check_sources, lines_of_page, read

__all__ = [
    "LIST_PREFIX",
    "TRACKING_PARAMETERS",
    "Check",
    "Entry",
    "Fetch",
    "Unreadable",
    "check_sources",
    "entries",
    "host_of",
    "is_list",
    "lines_of_page",
    "masked",
    "normal_form",
    "parse",
    "read",
    "shown",
]
