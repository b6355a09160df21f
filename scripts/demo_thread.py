"""A forum thread as a page of the size such pages really have: 4,000 or so characters of text in 336,690 of HTML.

The text is a small JSON file. What surrounds it (a menu of hundreds of communities, icons, data for scripts,
recommendations) is made here, the same on every call, and filled up to exactly `PAGE_CHARACTERS`. It is pure ASCII.
"""

from __future__ import annotations

import json
from hashlib import sha256
from html import escape
from typing import Any

PAGE_CHARACTERS = 336_690
MENU_COMMUNITIES = 310
SIDEBAR_COMMUNITIES = 60

_FIRST = ("quiet", "rusty", "amateur", "vintage", "nightly", "tiny", "stubborn", "northern", "pocket", "slow")
_SECOND = ("bakers", "cartographers", "cyclists", "knots", "radios", "aquariums", "typewriters", "mosses", "trains")
_TOPICS = ("Gaming", "Hobbies", "Technology", "Food", "Outdoors", "Music", "Crafts", "Science")


def render(thread: dict[str, Any]) -> str:
    """The page of a thread (`title`, `post`, `replies`, …): `PAGE_CHARACTERS` of ASCII."""
    before = _head(thread) + _menu()
    after = _recommended() + _footer() + '<script type="application/json" id="trace">{"spans":"'
    page = before + _thread(thread) + after
    end = '"}</script>\n</body>\n</html>\n'
    return page + _noise("trace", PAGE_CHARACTERS - len(page) - len(end)) + end


def _noise(seed: str, characters: int) -> str:
    """Hexadecimal digits that look like chance and are the same each time. Raises `ValueError` for less than none."""
    if characters < 0:
        raise ValueError(f"the page is {-characters} characters too long before it is filled up")
    blocks = -(-characters // 64)
    return "".join(sha256(f"{seed} {number}".encode()).hexdigest() for number in range(blocks))[:characters]


def _icon(seed: str) -> str:
    digits = sha256(seed.encode()).digest()[:12]
    curves = "".join(f"C{d % 20} {d % 17} {d % 13} {d % 19} {d % 11} {d % 7}" for d in digits)
    return f'<svg class="icon" aria-hidden="true" viewBox="0 0 20 20"><path d="M1 1{curves}z"/></svg>'


def _text(text: str) -> str:
    return escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _head(thread: dict[str, Any]) -> str:
    title = _text(thread["title"])
    flags = {f"experiment_{number:03}": _noise(f"flag {number}", 24) for number in range(400)}
    return f"""<!DOCTYPE html>
<html lang="en" class="theme-beta">
<head>
<meta charset="utf-8">
<title>{title} : {thread["community"]}</title>
<meta property="og:site_name" content="Threadbarn">
<meta name="author" content="{thread["author"]}">
<meta property="og:title" content="{title}">
<meta property="article:published_time" content="{thread["created"]}">
<style>.side-menu{{transform:translateX(-100%)}}{"".join(f".c{n}{{order:{n}}}" for n in range(300))}</style>
<script>window.___flags={json.dumps(flags)};</script>
</head>
<body>
"""


def _menu() -> str:
    """The hamburger menu: it stands first in the page, before anything that was written by anybody."""
    items = "\n".join(
        f'<li class="menu-item c{number}" data-id="t5_{_noise(name, 6)}" data-track="{_noise(name + "track", 96)}">'
        f'<a href="/r/{name}/" rel="nofollow">{_icon(name)}<span>r/{name}</span></a>'
        f'<button aria-label="Add {name} to favorites">{_icon("star")}</button></li>'
        for number, name in enumerate(_communities(MENU_COMMUNITIES))
    )
    topics = "".join(f'<li><a href="/topics/{topic.lower()}/">{topic}</a></li>' for topic in _TOPICS)
    return f"""<header class="site-header">
<button id="hamburger" aria-expanded="false" aria-controls="side-menu">Open menu</button>
<a href="/">Threadbarn</a> <input type="search" placeholder="Search Threadbarn">
<a href="/login">Log In</a> <a href="/register">Sign Up</a>
</header>
<nav id="side-menu" class="side-menu navigation"><h2>Topics</h2><ul>{topics}</ul><h2>Communities</h2>
<ul>
{items}
</ul></nav>
"""


def _communities(count: int) -> list[str]:
    names = [f"{first}_{second}" for first in _FIRST for second in _SECOND]
    return [f"{names[number % len(names)]}{number // len(names) or ''}" for number in range(count)]


def _thread(thread: dict[str, Any]) -> str:
    post = "\n".join(f"<p>{_text(part)}</p>" for part in thread["post"])
    replies = "\n".join(_reply(number, reply) for number, reply in enumerate(thread["replies"]))
    return f"""<main id="main-content">
<article class="post" data-score="{thread["score"]}">
<div class="byline"><a href="/r/{thread["community"]}/">r/{thread["community"]}</a>
<span>{thread["author"]}</span> <span class="flair">{thread["flair"]}</span></div>
<h1>{_text(thread["title"])}</h1>
<div class="post-content">
{post}
</div>
<div class="share-bar"><button>{_icon("up")}</button><button>{_icon("down")}</button><button>Share</button></div>
</article>
<section id="comments" class="comments-tree">
{replies}
</section>
</main>
"""


def _reply(number: int, reply: dict[str, Any]) -> str:
    text = "\n".join(f"<p>{_text(part)}</p>" for part in reply["text"])
    return f"""<div class="comment" id="t1_{_noise(f"reply {number}", 7)}" data-depth="{reply["depth"]}">
<div class="comment-meta">{_icon(reply["author"])}<a href="/user/{reply["author"]}/">{reply["author"]}</a></div>
<div class="comment-text">
{text}
</div>
<div class="comment-actions"><button>{_icon("up")}</button><span>{reply["score"]}</span>
<button>Reply</button><button>Award</button><button>Share</button></div>
</div>"""


def _recommended() -> str:
    cards = "\n".join(
        f'<li class="card" data-impression="{_noise(name, 160)}"><a href="/r/{name}/">{_icon(name)}r/{name}</a>'
        f"<span>{int(_noise(name, 4), 16):,} members</span><button>Join</button></li>"
        for name in reversed(_communities(SIDEBAR_COMMUNITIES))
    )
    return f'<aside class="sidebar"><h2>Communities you may enjoy</h2><ul>\n{cards}\n</ul></aside>\n'


def _footer() -> str:
    return """<footer class="site-footer"><a href="/rules">Rules</a> <a href="/privacy">Privacy Policy</a></footer>
<div class="cookie-prompt" role="dialog"><p>Cookies help us to keep you signed in.</p><button>Accept all</button></div>
<div class="app-prompt"><p>Get the app. It is nicer there.</p><button>Open</button></div>
"""
