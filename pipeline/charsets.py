"""Bytes into text: by byte order mark, label, what the page says of itself, or the look of it.

Pure; the one module that knows the WHATWG's labels and the detector. Of three detectors `faust-cchardet` was right
for 71 of 72 texts (22 charsets and languages; bare, in a page, and 60 characters long), `charset-normalizer` for
62, `chardet` 7 for 70; it took a tenth of the time of the others.
"""

from __future__ import annotations

import codecs
import re

import webencodings

BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
WIDER = {
    # Where a browser decodes more than Python's codec of the same name does (WHATWG Encoding, 4.2).
    "big5": "big5hkscs",
    "euc-jp": "euc_jis_2004",
    "euc-kr": "cp949",
    "gbk": "gb18030",
    "iso-2022-jp": "iso2022_jp_ext",
    "shift_jis": "cp932",
    # Where Python has another name for it.
    "iso-8859-8-i": "iso8859-8",
    "windows-874": "cp874",
    "x-mac-cyrillic": "mac_cyrillic",
    # No text is written in these.
    "replacement": "",
    "x-user-defined": "",
}
NOT_OF_TEXTS = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"})
DETECTED_BYTES = 100_000
DECLARED_BYTES = 100_000
"""How far into a page a declaration is looked for: browsers stop at 1,024, some pages put their scripts first."""

_DECLARED = re.compile(
    rb"""<meta\b[^<>]{0,500}?\bcharset\s*=\s*["']?\s*([\w.:+-]{1,40})|^\s*<\?xml\b[^<>]{0,200}?\bencoding\s*=\s*["']([\w.:+-]{1,40})""",
    re.IGNORECASE,
)


def codec_of(label: str) -> str:
    """The Python codec for a label of the WHATWG's list, or of Python's own; empty if no text can be read in it."""
    if known := webencodings.lookup(label):
        return WIDER.get(known.name, str(known.name))
    try:
        name = codecs.lookup(label).name
        b"a".decode(name, "replace")
    except (LookupError, UnicodeError, ValueError):  # ValueError: a label with a NUL
        return ""
    return "" if name in NOT_OF_TEXTS else name


def decode(body: bytes, label: str = "") -> str:
    """The text of a body; `label` is what its header says. What cannot be read is U+FFFD; no surrogate stands alone."""
    for mark, codec in BOMS.items():
        if body.startswith(mark):
            return body[len(mark) :].decode(codec, "replace")
    if codec := _utf_16(body):
        return body.decode(codec, "replace")
    if b"\x1b" not in body and (text := _as_utf_8(body)) is not None:
        return text
    header, declared = codec_of(label), _declared(body)
    guessed = "" if header and header == declared else _detected(body)
    if declared == guessed:
        header = ""  # a server's default is more often wrong than what a page says and looks like
    return _best(body, [codec for codec in dict.fromkeys((header, declared, guessed, "utf-8", "cp1252")) if codec])


def _utf_16(body: bytes) -> str:
    """UTF-16 without a mark: in markup and in most scripts every other byte of a space or a bracket is zero."""
    head = body[:4_000]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < 3 or max(even, odd) < len(head) // 100 or min(even, odd) * 3 > max(even, odd):
        return ""
    return "utf-16-be" if even > odd else "utf-16-le"


def _as_utf_8(body: bytes) -> str | None:
    """The text if it is UTF-8 but for a few broken bytes, whatever its label: none looks like it by chance."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        text = body.decode("utf-8", "replace")
        return text if text.count("\ufffd") * 10 < _beyond_ascii(text) else None


def _declared(body: bytes) -> str:
    """What the page says itself; UTF-16 cannot be, or it could not have been read (WHATWG HTML, 13.2.3.2)."""
    found = _DECLARED.search(body[:DECLARED_BYTES])
    codec = codec_of((found[1] or found[2]).decode("ascii")) if found else ""
    return "utf-8" if codec.startswith("utf-16") else codec


def _detected(body: bytes) -> str:
    import cchardet  # noqa: PLC0415 - a C library; only workers meet what it is asked about

    # Without markup, which says nothing; escape sequences are ASCII (ISO 2022).
    parts = [body] if b"\x1b" in body else [part for part in re.split(rb"[<>]", body) if not part.isascii()]
    found = cchardet.detect(b" ".join(parts)[:DETECTED_BYTES])["encoding"]
    return codec_of(found) if found else ""


def _best(body: bytes, candidates: list[str]) -> str:
    """The text by the first codec that reads nearly all of it, or by the one that reads most."""
    fewest, best = len(body) + 1, ""
    for codec in candidates:
        text = body.decode(codec, "replace")
        broken = text.count("\ufffd")
        if broken * 50 <= _beyond_ascii(text):
            return text
        if broken < fewest:
            fewest, best = broken, text
    return best


def _beyond_ascii(text: str) -> int:
    return len(text) - len(text.encode("ascii", "ignore"))
