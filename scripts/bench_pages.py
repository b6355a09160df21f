"""Pages whose text is known: the texts of data/bench in the layouts that pages have, with furniture around them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "data" / "bench"


@dataclass(frozen=True, slots=True)
class BenchPage:
    """A page, and the text that should come out of it."""

    name: str
    markup: str
    text: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What a layout puts together; all of it is escaped."""

    language: str
    title: str
    sections: Sequence[str]
    paragraphs: Sequence[str]
    menu: Sequence[str]
    more: Sequence[str]
    cookie: str
    accept: str
    footer: str
    letter: str
    share: str
    reply: str

    @property
    def body(self) -> str:
        """The text with its two headings."""
        return "\n".join(self.blocks("p"))

    def blocks(self, tag: str, heading: str = "h2") -> list[str]:
        """Its paragraphs and headings, an element each."""
        found = [f"<{tag}>{paragraph}</{tag}>" for paragraph in self.paragraphs]
        found.insert(3, f"<{heading}>{self.sections[1]}</{heading}>")
        found.insert(1, f"<{heading}>{self.sections[0]}</{heading}>")
        return found

    @property
    def navigation(self) -> str:
        return "".join(f'<li><a href="/{number}">{name}</a></li>' for number, name in enumerate(self.menu))

    @property
    def teasers(self) -> str:
        return "".join(f'<li><a href="/more/{number}">{name}</a></li>' for number, name in enumerate(self.more))

    @property
    def banner(self) -> str:
        return f'<div class="cookie-banner" role="dialog"><p>{self.cookie}</p><button>{self.accept}</button></div>'


Layout = Callable[[Parts], str]


def semantic(p: Parts) -> str:
    return f"""<header><nav><ul>{p.navigation}</ul></nav></header><main><article><h1>{p.title}</h1>{p.body}</article>
</main>
<aside><h3>{p.share}</h3><ul>{p.teasers}</ul></aside><footer><p>{p.footer}</p></footer>"""


def boxes(p: Parts) -> str:
    return f"""<div id="page"><div id="top"><div class="menu"><ul>{p.navigation}</ul></div></div>
<div id="content"><div class="post"><h1 class="post-title">{p.title}</h1>
<div class="post-content">{p.body}</div></div></div>
<div id="sidebar"><div class="widget">{p.letter}</div><ul>{p.teasers}</ul></div>
<div id="footer">{p.footer}</div></div>{p.banner}"""


def tables(p: Parts) -> str:
    links = " | ".join(f'<a href="{number}.htm">{name}</a>' for number, name in enumerate(p.menu))
    return f"""<table width="100%"><tr><td colspan="2" bgcolor="#003366"><font color="#ffffff">{links}</font></td></tr>
<tr><td width="150" valign="top"><font size="1">{p.letter}</font><br>{links}</td>
<td valign="top"><h1>{p.title}</h1>{p.body}</td></tr><tr><td colspan="2"><small>{p.footer}</small></td></tr></table>"""


def blog(p: Parts) -> str:
    replies = "".join(f'<li class="comment"><p>{p.reply}</p></li>' for _ in range(3))
    return f"""<header class="site-header"><ul class="nav-menu">{p.navigation}</ul></header>
<main class="site-main"><article class="entry"><header><h1 class="entry-title">{p.title}</h1></header>
<div class="entry-content">{p.body}</div><div class="share-buttons">{p.share}</div></article>
<ol class="commentlist">{replies}</ol></main><footer class="site-footer">{p.footer}</footer>"""


def news(p: Parts) -> str:
    first, *rest = p.blocks("p")
    advertisement = f'<div class="ad-slot"><p>{p.letter}</p></div>'
    return f"""{p.banner}<nav class="navbar"><ul>{p.navigation}</ul></nav><div class="container"><article>
<h1 class="headline">{p.title}</h1><div class="byline">I. Brook</div><div class="article-body">{first}{advertisement}
{"".join(rest)}</div><div class="related-stories"><ul>{p.teasers}</ul></div></article></div>
<div class="most-popular"><ul>{p.teasers}</ul></div><footer>{p.footer}</footer>"""


def broken_lines(p: Parts) -> str:
    text = "<br><br>\n".join(
        [p.paragraphs[0], f"<b>{p.sections[0]}</b>", *p.paragraphs[1:3], f"<b>{p.sections[1]}</b>"]
    )
    return f"""<div class="links">{" ".join(f'<a href="/{name}">{name}</a>' for name in p.menu)}</div>
<div class="text">{text}<br><br>{"<br><br>".join(p.paragraphs[3:])}</div><div class="bottom">{p.footer}</div>"""


def wiki(p: Parts) -> str:
    contents = "".join(f'<li><a href="#{number}">{name}</a></li>' for number, name in enumerate(p.sections))
    return f"""<div id="mw-head"><ul>{p.navigation}</ul></div><div id="content"><h1 id="firstHeading">{p.title}</h1>
<div id="mw-content-text"><div id="toc" class="toc"><ul>{contents}</ul></div>{p.body}</div></div>
<div id="mw-panel"><ul>{p.teasers}</ul></div><div id="footer"><p>{p.footer}</p></div>"""


def builder(p: Parts) -> str:
    blocks = "".join(
        f'<div class="el-section"><div class="el-column"><div class="el-widget-wrap"><div class="el-text">{block}</div>'
        "</div></div></div>"
        for block in p.blocks("p")
    )
    return f"""<div class="el-header"><ul class="el-menu">{p.navigation}</ul></div><div class="el-page">
<div class="el-section"><h1>{p.title}</h1></div>{blocks}</div>
<div class="el-footer"><p>{p.footer}</p></div>{p.banner}"""


def bare_boxes(p: Parts) -> str:
    return f"""<div><div>{"".join(f"<span><a href='/{name}'>{name}</a></span>" for name in p.menu)}</div>
<div><div>{p.title}</div>{"".join(p.blocks("div"))}</div><div>{p.footer}</div></div>"""


def hashed_names(p: Parts) -> str:
    return f"""<div id="__next"><div class="css-1x9k"><ul class="css-8ab1">{p.navigation}</ul></div>
<div class="css-77fe">
<h1 class="css-0a1b">{p.title}</h1>{"".join(f'<div class="css-q3">{block}</div>' for block in p.blocks("p"))}</div>
<div class="css-9zz">{p.letter}</div><div class="css-ff0">{p.footer}</div></div><script>window.__DATA__={{}}</script>"""


def documentation(p: Parts) -> str:
    return f"""<nav class="sidebar"><ul>{p.navigation}</ul></nav><div class="document"><div class="body" role="main">
<section><h1>{p.title}</h1>{p.body}</section></div></div><div class="prev-next"><ul>{p.teasers}</ul></div>
<footer><p>{p.footer}</p></footer>"""


def recipe(p: Parts) -> str:
    steps = "".join(f"<li>{paragraph}</li>" for paragraph in p.paragraphs[1:])
    return f"""<header><ul>{p.navigation}</ul></header><main><article><h1>{p.title}</h1><button>{p.share}</button>
<p>{p.paragraphs[0]}</p><h2>{p.sections[0]}</h2><h2>{p.sections[1]}</h2><ol>{steps}</ol></article>
<div class="newsletter">{p.letter}</div></main><footer>{p.footer}</footer>{p.banner}"""


def folded(p: Parts) -> str:
    first, *rest = p.blocks("p")
    return f"""<style>.closed{{display:none}}</style><ul class="menu closed">{p.navigation}</ul>
<main><h1>{p.title}</h1>{first}
<details><summary>{p.share}</summary>{"".join(rest)}</details><p class="closed">{p.letter}</p></main>
<span class="sr-only">{p.reply}</span><footer>{p.footer}</footer>"""


def hidden_things(p: Parts) -> str:
    return f"""<div style="display:none"><p>{p.reply} {p.letter} {p.cookie} {p.footer}</p></div>
<noscript>{p.letter}</noscript>
<main><article><h1>{p.title}</h1>{p.body}<p style="font-size:0">{p.reply}</p>
<p hidden>{p.letter} {p.reply}</p></article></main>
<template><p>{p.reply}</p></template><dialog><p>{p.cookie} {p.letter}</p></dialog><footer>{p.footer}</footer>"""


def quoted(p: Parts) -> str:
    first, head, *rest = p.blocks("p")
    return f"""<nav><ul>{p.navigation}</ul></nav><article><h1>{p.title}</h1>{first}{head}
<blockquote>{rest[0]}</blockquote>
{"".join(rest[1:])}</article><section class="related"><ul>{p.teasers}</ul></section><footer>{p.footer}</footer>"""


def bare_paragraphs(p: Parts) -> str:
    return f"<h1>{p.title}</h1>{p.body}"


LAYOUTS: tuple[Layout, ...] = (
    semantic,
    boxes,
    tables,
    blog,
    news,
    broken_lines,
    wiki,
    builder,
    bare_boxes,
    hashed_names,
    documentation,
    recipe,
    folded,
    hidden_things,
    quoted,
    bare_paragraphs,
)


def pages() -> Iterator[BenchPage]:
    """Each text in each layout."""
    texts: dict[str, dict[str, Any]] = json.loads((FOLDER / "texts.json").read_text("utf-8"))
    furniture: dict[str, dict[str, Any]] = json.loads((FOLDER / "furniture.json").read_text("utf-8"))
    for language, text in texts.items():
        parts = Parts(language, **_escaped(text), **_escaped(furniture[language]))
        known = [text["title"], *text["paragraphs"], *text["sections"]]
        for layout in LAYOUTS:
            replies = [furniture[language]["reply"]] * 3 if layout is blog else []
            head = f'<meta charset="utf-8"><title>{parts.title}</title><link rel="stylesheet" href="/style.css">'
            markup = f'<!DOCTYPE html><html lang="{language}"><head>{head}</head><body>{layout(parts)}</body></html>'
            yield BenchPage(f"{layout.__name__} {language}", markup, "\n".join([*known, *replies]))


def _escaped(words: dict[str, Any]) -> dict[str, Any]:
    return {
        name: escape(value, quote=False) if isinstance(value, str) else [escape(one, quote=False) for one in value]
        for name, value in words.items()
    }
