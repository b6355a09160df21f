"""Markup into the tree of what a reader of the page sees. Pure; the one module that knows lxml.

What a browser does not show is taken out and counted. What trafilatura 2.3.1 and its parser cannot bear is made
bearable: an element deeper than 252 loses its text and all that follows, as does one text, script or style of over
10 MB; a control character loses the page; thousands of attributes or of inline elements in one paragraph take
minutes; of two neighbouring paragraphs that are alike one is dropped. All of it in linear time.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, dropwhile, islice

from lxml.etree import (
    ElementDefaultClassLookup,
    HTMLParser,
    ParserError,
    XPath,
    strip_attributes,
    strip_elements,
    strip_tags,
)
from lxml.html import HtmlElement, document_fromstring

from pipeline import marks, styles
from pipeline.styles import Hiding
from pipeline.walls import Signs

DEEPEST = 200
"""Levels of elements that are kept; pages of today have 30 or 60."""
MOST_ATTRIBUTES = 40
MOST_INLINE = 1_000
"""Inline elements in one paragraph that are kept: 12,000 of them took trafilatura 2 seconds, 30,000 took 25."""
MOST_SEEN = 5_000
"""Characters in which it is looked for why there is no text."""
REPEATED = "\u3164"
"""Set after a paragraph that is like the one before it, so that both are kept. Invisible: `clean` takes it out."""
SHOWN_LATER_CHARACTERS = 1_000
"""A page with this much text in what its styles hide and next to none elsewhere shows it by a script."""

_UNSEEN = re.compile(
    "[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]+"
)
"""Characters that are not seen, or control what is: they are no text."""
# Joiners shape the letters beside them (Persian, Hindi, emoji); by themselves they only hide something.
_LONE_JOINERS = re.compile("(?<!\\w)[\u200c\u200d]+(?!\\S)|(?<=[\u0000-\u007f])[\u200c\u200d]+|[\u200c\u200d]{2,}")


def _names_in(words: str) -> tuple[str, ...]:
    return tuple(words.split(" "))


_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r") | {127})
_CONTROL_REFERENCE = re.compile(
    r"&#(?:x0*(?:[0-8bcef]|1[0-9a-f]|7f|fff[ef])(?![0-9a-f])|0*(?:[0-8]|1[124-9]|2\d|3[01]|127|6553[45])(?!\d));?",
    re.IGNORECASE,
)
_DOCTYPE = re.compile(r"\s*<!doctype\b[^>\[]*(?:\[[^\]]*\])?[^>]*>", re.IGNORECASE)
_SELF_CLOSED_ROOT = re.compile(r"<(html|body)\b([^<>]*)/>", re.IGNORECASE)
_LONG_TAG = re.compile(r"<[a-z][\w:.-]*(?=[\s/][^<>]{8000})", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""[\s/]*([^\s"'<>/=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'<>]*))?""")
_TAG = re.compile(r"<(/?)([a-z][a-z0-9]*)[^<>]*>", re.IGNORECASE)
_OF_THE_HEAD = frozenset(_names_in("title meta link script style base basefont bgsound noscript template"))
_VOID = frozenset(_names_in("area base br col embed hr img input link meta param source track wbr"))
_INLINE = _names_in("a abbr b bdi bdo big cite code del dfn em font i ins kbd mark q s small span strong sub sup u var")
_KEPT_ATTRIBUTES = ("id", "class", "style", "role", "hidden", "href", "itemprop", "rel", "name", "property", "content")
_ARTICLE_IN_DATA = re.compile(
    r'"(articleBody|reviewBody|recipeInstructions|acceptedAnswer|description|step|text)"(?=\s*:)'
)
_FOR_SCREEN_READERS = frozenset(
    _names_in(".sr-only .visually-hidden .visuallyhidden .screen-reader-text .screen-reader-only .element-invisible")
)
_BANNER = re.compile(
    # At the beginning of a name: `has-cookie-bar` is what a whole page is called.
    r"(?<![\w-])(?:cookies?[-_]?(?:banner|bar|consent|dialog|law|message|modal|notice|overlay|popup|prompt|wall)"
    r"|(?:ccpa|consent|gdpr)[-_]?(?:banner|bar|dialog|manager|message|modal|notice|overlay|popup|prompt)"
    r"|onetrust|cookiebot|didomi|usercentrics|borlabs|cmplz|cookieyes|qc-cmp|sp_message)",
    re.IGNORECASE,
)
MOST_OF_A_BANNER = 3_000
FEWEST_BESIDE_A_BANNER = 40
_TAKEN_OUT = "taken-out"
Names = tuple[str, str]
"""The classes and the id of an element."""
_NEVER_SHOWN = _names_in(
    "template noscript noframes noembed canvas audio video iframe object datalist annotation dialog rp"
)

_TOO_DEEP = XPath("/*" * DEEPEST)
_NAMING = [
    XPath(f"//@{name}", smart_strings=False)
    for name in ("class", "id", "itemprop", "rel", "data-component", "data-testid")
]
_OF_AUTHORS = _names_in(
    "author byl bbl username writer screenname journalist-name channel-name posted-by submitted-by"
    " zuozhe bianji xiaobian"
)
_OF_DATA = "application/ld+json"
_DATA = XPath(f"//script[@type='{_OF_DATA}']")
_SHEETS = XPath("//style[not(@media) or @media='all' or @media='screen' or @media='']")
_SAID_HIDDEN = XPath("//body/descendant::*[@aria-hidden='true' or @popover or @hidden and not(@hidden='until-found')]")
_STYLED = XPath("//body/descendant::*[@style or @color]")
_NAMED = XPath("//body/descendant::*[@class or @id]")
_OVERLOADED = XPath(f"//*[@*[{MOST_ATTRIBUTES + 1}]]")
_LONG_BLOCKS = XPath(
    # The number first, which hardly any element has: the names of all took ten times as long.
    f"//*[descendant::*[{MOST_INLINE + 1}]]"
    "[self::p or self::li or self::td or self::th or self::dd or self::dt or self::h1 or self::h2 or self::h3"
    " or self::h4 or self::h5 or self::h6 or self::blockquote or self::pre or self::q or self::summary or self::span]"
)
# One for each name: to look for all of them at once took three times as long. The neighbour is `[1]` and no more: with
# another condition behind it all neighbours are gone through: 40,000 paragraphs took 6 seconds.
_REPEATS = [
    XPath(f"//{name}[name(preceding-sibling::*[1])=name() and .=preceding-sibling::*[1] and string-length(.)>1]")
    for name in ("p", "blockquote", "pre", "h2", "h3")
]
_HEADINGS = XPath("(//head//title)[1]|(//h1)[1]")
_CONTROLS_OF_PAGE = XPath(
    "(//button|//a|//input[@type='submit' or @type='button']|//*[@role='button'])[position()<=500]"
)
_METAS = XPath("(//meta[@name and @content])[position()<=500]")
_PASSWORDS = XPath("//input[@type='password']")
_PAYWALLS = XPath("//*[contains(@class,'paywall') or contains(@id,'paywall') or contains(@class,'regwall')]")
_CHARACTERS = XPath("string-length(normalize-space(.))")
_TEXT = XPath("string(.)", smart_strings=False)
_WORDS = XPath("normalize-space(.)")


@dataclass(frozen=True, slots=True)
class Seen:
    """A page as its reader sees it, and what tells why there may be nothing to see."""

    tree: HtmlElement
    hidden_characters: int
    """Of text that a browser does not show, taken out."""
    characters: int
    """That are left, menus and all."""
    without_scripts: str
    """What it says to those who run no scripts."""
    scripts: int
    data: str
    """What it says to search engines (JSON-LD)."""


def see(markup: str) -> Seen | None:
    """What is seen of a page; `None` if there is nothing in it at all."""
    tree = _parsed(_bearable(markup))
    if tree is None:
        return None
    _part_head_and_body(tree)
    without_scripts = " ".join(map(_WORDS, islice(tree.iter("noscript"), 20)))[:MOST_SEEN]
    scripts = sum(1 for _ in tree.iter("script"))
    data = "\n".join(script.text or "" for script in _DATA(tree))
    names = styles.hidden_names("\n".join(sheet.text or "" for sheet in _SHEETS(tree)))
    _take_out(tree, list(_code(tree)))
    before = _CHARACTERS(tree)
    _take_out(tree, list(_never_shown(tree)))
    named = _named(tree)
    _hide(tree, list(_hidden(tree, named, names)))
    after = _CHARACTERS(tree)
    _take_out(tree, list(_banners(tree, named, after)))
    unseen = int(before - after) + invisible(_TEXT(tree))
    _lighten(tree)
    return Seen(tree, unseen, int(after), without_scripts, scripts, data)


def invisible(text: str) -> int:
    """How many characters of a text are not seen. Control characters do not count."""
    runs = _UNSEEN.findall(text) + (_LONE_JOINERS.findall(text) if _has_joiners(text) else [])
    return sum(len(run) for run in runs if run[0] > "\x9f")


def without_invisible(text: str) -> str:
    """A text without the characters that are not seen, or control what is."""
    seen = _UNSEEN.sub("", text)
    return _LONE_JOINERS.sub("", seen) if _has_joiners(seen) else seen


def _has_joiners(text: str) -> bool:
    return "\u200c" in text or "\u200d" in text


def language(tree: HtmlElement) -> str:
    """The language that a page says it is in, such as `ko` or `pt-BR`; empty if it says none."""
    said = tree.get("lang") or tree.get("xml:lang") or ""
    return said if re.fullmatch(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*", said) else ""


def asked(tree: HtmlElement) -> tuple[str, ...]:
    """What the page asks of those who read it by machine, as `marks` has it."""
    return marks.in_metas((meta.get("name"), meta.get("content")) for meta in _METAS(tree))


def canonical(tree: HtmlElement) -> str:
    """Where the page says that it really lies, as it says it; empty if it does not."""
    for link in tree.iter("link"):
        if link.get("rel") == "canonical" and link.get("href") is not None:
            return str(link.get("href")).strip()
    return ""


def may_name_an_author(tree: HtmlElement) -> bool:
    """Whether anything in the page is called by a name that stands for its author, as trafilatura has them.

    To look for one takes trafilatura as long as to take the page apart, and half of the pages have none.
    """
    names = " ".join(name for attribute in _NAMING for name in attribute(tree)).lower()
    return any(word in names for word in _OF_AUTHORS) or next(tree.iter("author"), None) is not None


def signs(seen: Seen, text: str) -> Signs:
    """What tells whether a short text is the page's own."""
    tree = seen.tree
    heading = "\n".join(_WORDS(element) for element in _HEADINGS(tree))
    return Signs(
        text=text,
        seen=_WORDS(tree.find(".//body"))[:MOST_SEEN] if tree.find(".//body") is not None else "",
        heading=heading,
        controls="\n".join(_WORDS(element) or element.get("value") or "" for element in _CONTROLS_OF_PAGE(tree)),
        without_scripts=seen.without_scripts,
        data=seen.data,
        has_scripts=seen.scripts > 0,
        has_password=bool(_PASSWORDS(tree)),
        has_paywall=bool(_PAYWALLS(tree)),
    )


def _bearable(markup: str) -> str:
    if "&#" in markup:
        markup = _CONTROL_REFERENCE.sub("", markup)
    if doctype := _DOCTYPE.match(markup):
        markup = markup[doctype.end() :]
    markup = _short_tags(markup)
    return _SELF_CLOSED_ROOT.sub(r"<\1\2>", markup[:4_096]) + markup[4_096:]


def _short_tags(markup: str) -> str:
    """Without most attributes of tags that are very long: the parser takes 30 seconds for 100,000 of one tag."""
    parts, at = [], 0
    while tag := _LONG_TAG.search(markup, at):
        parts.append(markup[at : tag.end()])
        at = tag.end()
        wanted = set(_KEPT_ATTRIBUTES)
        while attribute := _ATTRIBUTE.match(markup, at):
            at = attribute.end()
            name = attribute[1].lower()
            if name in wanted and len(attribute[0]) <= styles.LONGEST_STYLE:
                wanted.remove(name)
                parts.append(attribute[0])
    return "".join(parts) + markup[at:]


def _parsed(markup: str) -> HtmlElement | None:
    """The tree, at most `DEEPEST` levels deep: below that there is text only."""
    for form in (_as_it_is, _shallow, _flat):
        # `huge_tree`: or the parser gives up at the 256th level, and at 10 MB in one node.
        parser = HTMLParser(encoding="utf-8", huge_tree=True, collect_ids=False, remove_comments=True, remove_pis=True)
        # The parser of `lxml.html` asks a function for the class of each element that is met: 7,000 times a page.
        parser.set_element_class_lookup(ElementDefaultClassLookup(element=HtmlElement))
        # trafilatura gives a page up for one character that XML cannot hold: controls, U+FFFE and U+FFFF.
        data = form(markup).encode("utf-8", "replace").translate(None, _CONTROLS)
        data = data.replace(b"\xef\xbf\xbe", b"").replace(b"\xef\xbf\xbf", b"")
        try:
            tree = document_fromstring(data, parser=parser)
        except ParserError:  # empty
            return None
        gave_up = any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log)
        if not gave_up and not _TOO_DEEP(tree):
            return tree
    return None


def _as_it_is(markup: str) -> str:
    return markup


def _shallow(markup: str) -> str:
    """Without the tags that open or close what is too deep, but with the paragraphs that they make."""
    open_tags: list[str] = []

    def kept(tag: re.Match[str]) -> str:
        name = tag[2].lower()
        if name in _VOID:
            return tag[0]
        separator = "" if name in _INLINE else "<p>"
        if not tag[1]:
            open_tags.append(name)
            return tag[0] if len(open_tags) < DEEPEST - 1 else separator
        if not open_tags or open_tags[-1] != name:
            return separator
        open_tags.pop()
        return tag[0] if len(open_tags) < DEEPEST - 2 else separator

    return _TAG.sub(kept, markup)


def _flat(markup: str) -> str:
    """Only the words, in paragraphs."""
    lines = re.sub(r"<[^<>]*>", "\n", re.sub(r"(?is)<(script|style)\b.*?(?:</\1|\Z)", "<", markup))
    return "".join(f"<p>{html.escape(line)}</p>" for line in html.unescape(lines).split("\n") if line.strip())


def _part_head_and_body(tree: HtmlElement) -> None:
    """What a browser has in the body is in the body.

    To the parser, which knows HTML 4, `<article>` and `<main>` begin none: where a page leaves out the tags of head and
    body, as it may, its text stood in the head, where nothing was hidden and no comment was found.
    """
    head = tree.find("head")
    strayed = list(dropwhile(lambda element: element.tag in _OF_THE_HEAD, head)) if head is not None else []
    if not strayed:
        return
    body = tree.find("body")
    if body is None:
        body = tree.makeelement("body")
        tree.append(body)
    strayed[-1].tail = (strayed[-1].tail or "") + (body.text or "")
    body.text = None
    body[:] = [*strayed, *body]


def _code(tree: HtmlElement) -> Iterator[HtmlElement]:
    yield from tree.iter("style", "svg")
    yield from (script for script in tree.iter("script") if script.get("type") != _OF_DATA)
    yield from (link for link in tree.iter("link") if link.get("rel") != "canonical")


def _never_shown(tree: HtmlElement) -> Iterator[HtmlElement]:
    for element in tree.iter(*_NEVER_SHOWN):
        is_shown = element.tag == "dialog" and element.get("open") is not None
        if not is_shown and (element.tag != "rp" or _CHARACTERS(element) > 2):
            yield element


def _take_out(tree: HtmlElement, elements: Iterable[HtmlElement]) -> None:
    """Without the elements, but with the text after them. (Taking them out one by one is quadratic.)"""
    around = []
    for element in elements:
        if (parent := element.getparent()) is not None:
            around.append(parent)
            element.tag = _TAKEN_OUT
    strip_elements(tree, _TAKEN_OUT, with_tail=False)
    for parent in dict.fromkeys(around):
        _join(parent)


def _join(element: HtmlElement) -> None:
    """Makes one text of those side by side: where there are thousands, trafilatura takes minutes."""
    if element.text:
        element.text = str(element.text)
    for child in element:
        if child.tail:
            child.tail = str(child.tail)


def _named(tree: HtmlElement) -> list[tuple[HtmlElement, Names]]:
    """The elements of the body that have a class or an id, with both as they are written."""
    return [(element, (element.get("class") or "", element.get("id") or "")) for element in _NAMED(tree)]


def _hidden(
    tree: HtmlElement, named: list[tuple[HtmlElement, Names]], rules: dict[str, Hiding]
) -> Iterator[tuple[HtmlElement, Hiding]]:
    """The elements of the body that a style hides, and how."""
    for element in _SAID_HIDDEN(tree):
        yield element, Hiding.BOX
    for element in _STYLED(tree):
        if how := styles.hiding(_style(element)) or _on_its_own_ground(element):
            yield element, how
    hiding = dict.fromkeys(_FOR_SCREEN_READERS, Hiding.BOX) | rules
    # The names of each kind of element once: thousands are of a few dozen kinds.
    kinds = {
        names: [hiding[name] for name in _selectors(*names) if name in hiding] for names in {kind for _, kind in named}
    }
    yield from ((element, how) for element, names in named for how in kinds[names])


def _banners(tree: HtmlElement, named: list[tuple[HtmlElement, Names]], characters: float) -> Iterator[HtmlElement]:
    """The questions about cookies that stand beside a text; one that stands alone tells what the page is."""
    kinds = {names for names in {kind for _, kind in named} if _BANNER.search(" ".join(names))}
    for element, names in named if kinds else ():
        # Not what stood in something hidden, and is out of the tree.
        if names in kinds and tree in element.iterancestors() and _CHARACTERS(element) < MOST_OF_A_BANNER:
            characters -= _CHARACTERS(element)
            if characters >= FEWEST_BESIDE_A_BANNER and not element.xpath("boolean(.//h1|.//article)"):
                yield element


def _style(element: HtmlElement) -> styles.Style:
    return styles.declared(element.get("style") or "")


def _selectors(classes: str, identity: str) -> list[str]:
    # In lower case, as the rules are here.
    names = [f".{name}" for name in classes.lower().split()]
    return [*names, f"#{identity}".lower()] if identity else names


def _on_its_own_ground(element: HtmlElement) -> Hiding | None:
    """Letters in the colour of what is behind them, as far as elements say so themselves."""
    letters = styles.color(_style(element).get("color", "") or (element.get("color") or "").lower())
    if not letters or styles.background(_style(element)):
        return None
    for around in element.iterancestors():
        ground = styles.background(_style(around)) or styles.color((around.get("bgcolor") or "").lower())
        if ground:
            return Hiding.INK if styles.same(letters, ground) else None
    return None


def _hide(tree: HtmlElement, hidden: list[tuple[HtmlElement, Hiding]]) -> None:
    found = {element for element, _ in hidden}
    outermost = [element for element in found if found.isdisjoint(element.iterancestors())]
    characters = sum(_CHARACTERS(element) for element in outermost)
    if characters >= SHOWN_LATER_CHARACTERS and characters >= 0.9 * _CHARACTERS(tree):
        return
    whole = []
    for element, how in hidden:
        if how is Hiding.INK and any(styles.inked(_style(inner)) for inner in element.iterdescendants()):
            _blank(element)
        else:
            whole.append(element)
    _take_out(tree, whole)


def _blank(element: HtmlElement) -> None:
    """Takes out the letters of an element, except where an element in it has letters of its own."""
    waiting = [element]
    while waiting:
        blank = waiting.pop()
        blank.text = None
        for child in blank:
            child.tail = None
            if not styles.inked(_style(child)):
                waiting.append(child)


def _lighten(tree: HtmlElement) -> None:
    """Makes what is left bearable."""
    # Of no use any more, and trafilatura drops a box for an `overflow:hidden`.
    strip_attributes(tree, "style", "hidden", "aria-hidden")
    for element in _OVERLOADED(tree):
        kept = {name: value for name in _KEPT_ATTRIBUTES if (value := element.get(name)) is not None}
        light = element.makeelement(element.tag, kept)
        light.text, light.tail = element.text, element.tail
        light.extend(element)
        if (parent := element.getparent()) is not None:
            parent.replace(element, light)
    for block in _LONG_BLOCKS(tree):
        strip_tags(block, *_INLINE)
        _join(block)
    for script in _DATA(tree):
        # A text that stands there only is hidden from a reader; trafilatura would take it for the page's.
        script.text = _ARTICLE_IN_DATA.sub(r'"-\1"', script.text or "")
    for preloaded in tree.iterfind(".//div[@data-preloaded]"):
        del preloaded.attrib["data-preloaded"]
    for alike, element in enumerate(chain.from_iterable(repeats(tree) for repeats in _REPEATS)):
        mark = REPEATED * (alike % 50 + 1)
        if len(element):
            element[-1].tail = (element[-1].tail or "") + mark
        else:
            element.text = (element.text or "") + mark
