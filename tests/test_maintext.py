"""What a page says of itself: who wrote it, on which site, when."""

from __future__ import annotations

import re

import pytest
from trafilatura.xpaths import AUTHOR_XPATHS

from pipeline.maintext import Said, said
from pipeline.visible import may_name_an_author, see

NAME = "Ada Reed"
URL = "https://www.harbour.test/notes/boats.html"


def of(body: str, head: str = "") -> Said:
    seen = see(f"<html><head>{head}</head><body><article><p>Boats rest.</p>{body}</article></body></html>")
    assert seen
    return said(seen, URL)


@pytest.mark.parametrize(
    "byline",
    [
        f'<a rel="author" href="/ada">{NAME}</a>',
        f'<span class="byline">by {NAME}</span>',
        f'<p id="zuozhe">{NAME}</p>',
        f'<div class="Posted-By posted-by">{NAME}</div>',
        f'<span itemprop="author">{NAME}</span>',
        f'<div data-testid="AuthorCard">{NAME}</div>',
        f'<em class="screenname">{NAME}</em>',
        f"<author>{NAME}</author>",
    ],
)
def test_an_author_is_found_by_any_of_its_names(byline: str) -> None:
    assert of(byline).author == NAME


def test_no_name_of_authors_that_trafilatura_knows_is_passed_over() -> None:
    known = [name for path in AUTHOR_XPATHS for name in re.findall(r"'([^']+)'", path.path)]
    assert "byline" in known
    for name in {part for names in known for part in names.split("|")} - {"me"}:
        seen = see(f'<p class="{re.sub(r"[][?]", "", name)}">{NAME}</p>')
        assert seen
        assert may_name_an_author(seen.tree), name


def test_a_page_that_names_no_author_has_none() -> None:
    seen = see(f"<p class='text'>{NAME} tells of boats, by the author of boats.</p>")
    assert seen
    assert not may_name_an_author(seen.tree)
    assert of(f"<p class='text'>{NAME}</p>").author == ""


def test_the_name_of_an_account_is_no_author() -> None:
    assert of("", '<meta name="author" content="ada77">').author == ""
    assert of("", f'<meta name="author" content="{NAME}">').author == NAME


@pytest.mark.parametrize(
    "data",
    ["[[1]]", "[" * 100_000, '{"@context":"https://schema.org","@type":[[]]}', '{"@context":"https://schema.org", 7'],
)
def test_data_of_an_odd_shape_loses_nothing_else(data: str) -> None:
    found = of("", f'<title>Boats</title><script type="application/ld+json">{data}</script>')
    assert (found.title, found.site) == ("Boats", "harbour.test")


def test_a_site_is_called_as_it_calls_itself_or_by_its_host() -> None:
    assert of("").site == "harbour.test"
    assert of("", '<meta property="og:site_name" content="the harbour">').site == "The Harbour"
    assert of("", '<meta name="twitter:site" content="@Harbour">').site == "Harbour"
    assert of("", "<title>Boats - harbour.test</title>").site == "harbour.test"


def test_a_date_is_read_where_one_is_given_and_not_guessed() -> None:
    assert of("", '<meta property="article:published_time" content="2024-06-03T10:00:00Z">').published == "2024-06-03"
    assert of("<p>Minutes of June 2024</p>").published == ""
