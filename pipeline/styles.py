"""Style sheets and style attributes, as far as they say that something is not to be seen. Pure.

Where a style may hide or not, it does not: a text that is lost is worse than one that nobody was meant to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache

LONGEST_STYLE = 2_000
LONGEST_SHEET = 500_000
FAR_OFF = 500.0
"""Pixels beyond the edge from which on nothing of a box can be seen."""
SMALL = 1.0
"""Pixels: a box or letters of this size are not seen."""

_PIXELS = {
    "": 1.0,
    "px": 1.0,
    "pt": 1.33,
    "em": 16.0,
    "rem": 16.0,
    "ex": 8.0,
    "ch": 8.0,
    "%": 5.0,
    "vw": 10.0,
    "vh": 10.0,
}
_LENGTH = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(px|pt|r?em|ex|ch|%|v[wh])?")
_COLORS = {"white": "#ffffff", "black": "#000000", "red": "#ff0000", "gray": "#808080", "silver": "#c0c0c0"}
_HEX = re.compile(r"#(?:[0-9a-f]{3}|[0-9a-f]{6})")
_RGB = re.compile(r"rgba?\((\d{1,3})[, ]+(\d{1,3})[, ]+(\d{1,3})\s*(?:[,/]\s*1(?:\.0+)?)?\)")
_ESCAPE = re.compile(r"\\([0-9a-f]{1,6})\s?|\\(.)", re.IGNORECASE | re.DOTALL)
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_SIMPLE = re.compile(r"(?:^|,)\s*(?:[a-z][a-z0-9]*)?([.#][\w-]+)\s*(?=,|\Z)")
"""Of the selectors of a rule those that are one name, or one name of one element."""
_NAME = re.compile(r"[.#][\w-]+")
_BETWEEN = re.compile(r"[\s>+~]+")
_EVERYWHERE = re.compile(r"@layer.*|@media\s+(?:all|screen)", re.DOTALL)
_CUT_TO_NOTHING = re.compile(r"inset\((?:[5-9]\d|100)%|circle\(0|polygon\(0(?:px|%)? 0(?:px|%)?, ?0(?:px|%)? 0")
_SCALED_TO_NOTHING = re.compile(r"scale[xy3d]*\(0(?:\.0+)?[,)]")
_NO_COLOR = re.compile(
    r"(?:rgb|hsl)a?\((?:[^,()]*,){3} ?0?\.?0*%?\)|(?:rgb|hsl)a?\([^/()]*/ ?0?\.?0*%?\)|#[0-9a-f]{3}0|#[0-9a-f]{6}00"
)

Style = dict[str, str]


class Hiding(Enum):
    """How a style hides."""

    BOX = "with all that is in it"
    INK = "its letters, and those of what is in it unless that says otherwise"


@lru_cache(maxsize=4_096)
def declared(style: str) -> Style:
    """The declarations of a style: names and values in lower case, the last of a name counts."""
    found: Style = {}
    plain = _ESCAPE.sub(_unescaped, _COMMENT.sub("", style[:LONGEST_STYLE])).lower()
    for declaration in plain.split(";"):
        name, colon, value = declaration.partition(":")
        if colon:
            found[name.strip()] = " ".join(value.replace("!important", "").split())
    return found


def _unescaped(found: re.Match[str]) -> str:
    number = int(found[1], 16) if found[1] else 0
    return (found[2] or "") if not found[1] else chr(number) if 0 < number < 0xD800 else ""


def hiding(style: Style) -> Hiding | None:
    """How the declarations hide what they stand at; `None` if they do not."""
    if any(hides(style) for hides in (_unshown, _see_through, _off_edge, _clipped)):
        return Hiding.BOX
    if style.get("visibility") in ("hidden", "collapse") or _tiny(style) or _same_as_ground(style):
        return Hiding.INK
    return None


def shows(style: Style) -> bool:
    """Whether the declarations take back what another rule hides."""
    return (
        style.get("display", "none") not in ("none", "")
        or style.get("visibility") == "visible"
        or _number(style.get("opacity", "0")) > 0.05
        or style.get("clip") == "auto"
        or style.get("position") == "static"
    )


def inked(style: Style) -> bool:
    """Whether the declarations give letters back their size, colour or visibility."""
    return hiding(style) is None and bool(style.keys() & {"font-size", "font", "visibility", "color"})


def background(style: Style) -> str:
    """The colour behind the letters; empty if the declarations name none."""
    words = style.get("background-color") or style.get("background")
    if not words:
        return ""
    return color(words) or next((found for word in words.split() if (found := color(word))), "")


def color(value: str) -> str:
    """A colour as `#rrggbb`; empty if it is written in another way, or none."""
    value = _COLORS.get(value.strip(), value.strip())
    if _HEX.fullmatch(value):
        return value if len(value) > 4 else "#" + "".join(digit * 2 for digit in value[1:])
    found = _RGB.fullmatch(value)
    return "#" + "".join(f"{min(int(part), 255):02x}" for part in found.groups()) if found else ""


def same(one: str, other: str) -> bool:
    """Whether two colours cannot be told apart."""
    return bool(one and other) and all(
        abs(int(one[at : at + 2], 16) - int(other[at : at + 2], 16)) <= 8 for at in (1, 3, 5)
    )


def hidden_names(sheets: str) -> dict[str, Hiding]:
    """The `.classes` and `#ids` that rules hide and that no rule, of any width of screen or state, shows."""
    rules = list(_rules(_COMMENT.sub("", sheets[:LONGEST_SHEET])))
    hidden: dict[str, Hiding] = {}
    for selectors, body, always in rules:
        if always and (names := _SIMPLE.findall(selectors)) and (how := _lasting(declared(body))):
            hidden.update(dict.fromkeys(names, how))
    for selectors, body, _ in rules if hidden else ():
        if not hidden.keys().isdisjoint(_NAME.findall(selectors)) and shows(declared(body)):
            for name in [name for selector in selectors.split(",") for name in _named_last(selector)]:
                hidden.pop(name, None)
    return hidden


def _lasting(style: Style) -> Hiding | None:
    return None if style.keys() & {"animation", "transition"} else hiding(style)


def _named_last(selector: str) -> list[str]:
    """The names of what a selector is about: in `.a .b.c` they are `.b` and `.c`."""
    return _NAME.findall(_BETWEEN.split(selector.strip())[-1])


def _rules(sheets: str) -> Iterator[tuple[str, str, bool]]:
    """The selectors and the body of each rule, and whether it holds on every screen."""
    around: list[str] = []
    parts = re.split(r"([{}])", sheets)
    for words, brace in zip(parts[::2], parts[1::2], strict=False):
        if brace == "{":
            # What stands before a semicolon belongs to what came before: `@charset …;`
            around.append(words.rpartition(";")[2].strip().lower()[:LONGEST_STYLE])
        elif around:
            selectors = around.pop()
            if selectors and not selectors.startswith("@") and not any(at.startswith("@media print") for at in around):
                yield selectors, words, all(_EVERYWHERE.fullmatch(at) for at in around)


def _unshown(style: Style) -> bool:
    return style.get("display") == "none" or style.get("content-visibility") == "hidden"


def _see_through(style: Style) -> bool:
    return (
        _number(style.get("opacity", "1")) <= 0.05
        or re.match(r"opacity\(0%?\)", style.get("filter", "")) is not None
        or _number(style.get("zoom", "1")) == 0
    )


def _off_edge(style: Style) -> bool:
    placed = style.get("position") in ("absolute", "fixed", "relative", "sticky")
    names = ("text-indent", "margin-left", "margin-top", *(("left", "right", "top", "bottom") if placed else ()))
    moves = re.findall(r"translate[xy3d]*\(([^,)]*)", style.get("transform", ""))
    return any(_pixels(length) <= -FAR_OFF for length in [style.get(name, "") for name in names] + moves)


def _clipped(style: Style) -> bool:
    clip = style.get("clip", "")
    if clip.startswith("rect(") and not re.search(r"auto|[2-9]|\d\d", clip):
        return True
    if _CUT_TO_NOTHING.match(style.get("clip-path", "")) or _SCALED_TO_NOTHING.match(style.get("transform", "")):
        return True
    if style.get("overflow", "").split(" ")[0] not in ("hidden", "clip"):
        return False
    sides = [style.get(name, "") for name in ("width", "height", "max-width", "max-height")]
    return any(0 <= _pixels(side) <= SMALL for side in sides)


def _tiny(style: Style) -> bool:
    return 0 <= _pixels(style.get("font-size", "")) <= SMALL


def _same_as_ground(style: Style) -> bool:
    value = style.get("color", "")
    if "text" in style.get("background-clip", "") + style.get("-webkit-background-clip", ""):
        return False  # letters filled with a picture
    return value == "transparent" or bool(_NO_COLOR.fullmatch(value)) or same(color(value), background(style))


def _number(value: str) -> float:
    found = _LENGTH.match(value)
    return float(found[1]) / (100 if found[2] == "%" else 1) if found else 1.0


def _pixels(value: str) -> float:
    """A length, roughly; what is none counts as one that is seen."""
    found = _LENGTH.fullmatch(value)
    return float(found[1]) * _PIXELS[found[2] or ""] if found else 100.0
