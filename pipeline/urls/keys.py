"""The key of a page: its URL in the one spelling under which it is known, fixed for good."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

from w3lib.url import safe_url_string, url_query_cleaner

DEFAULT_PORTS = {"http": 80, "https": 443}

TRACKING_PARAMETERS = (
    *("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id", "utm_name", "utm_cid"),
    *("utm_reader", "utm_social", "utm_source_platform", "utm_creative_format", "utm_marketing_tactic"),
    *("gclid", "gclsrc", "dclid", "gbraid", "wbraid", "srsltid", "_ga", "_gl", "fbclid", "igshid", "msclkid"),
    *("twclid", "ttclid", "yclid", "ysclid", "li_fat_id", "mc_cid", "mc_eid", "mkt_tok", "vero_id", "vero_conv"),
    *("_hsenc", "_hsmi", "__hssc", "__hstc", "__hsfp", "oly_anon_id", "oly_enc_id", "wickedid", "ml_subscriber"),
)
"""Parameters that say where a reader came from, never what is read. The list is fixed: it is a part of every key."""

_UNRESERVED = re.compile(r"%(4[1-9a-f]|5[0-9a]|6[1-9a-f]|7[0-9a]|3[0-9]|2d|2e|5f|7e)", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)


def normal_form(url: str) -> str:
    """The key of a page: the RFC 3986 (6.2.2, 6.2.3) normal form of its URL.

    Scheme and host in lower case, the host in its IDNA form, the default port off, dot segments resolved,
    unreserved characters unescaped and other escapes in upper case, an empty path as `/`, no fragment, and no
    `TRACKING_PARAMETERS`. The order of the query is kept: it may matter to the site. (w3lib quotes, encodes
    the host and cleans the query here; its `canonicalize_url` sorts the query, and courlan's `clean_url` drops
    parameters such as `ref` and `source` that some sites need.)

    Raises `ValueError` for what is no URL.
    """
    parts = urlsplit(safe_url_string(url))
    if not parts.hostname:
        raise ValueError("no host")
    path = _without_dots(_normal_escapes(parts.path) or "/")
    bare = urlunsplit((parts.scheme.lower(), host_of(parts), path, _normal_escapes(parts.query), ""))
    return url_query_cleaner(bare, TRACKING_PARAMETERS, remove=True, unique=False) if parts.query else bare


def _without_dots(path: str) -> str:
    """RFC 3986 (5.2.4); `urllib.parse.urljoin` would take a path that begins with two slashes for a host."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _normal_escapes(text: str) -> str:
    unescaped = _UNRESERVED.sub(lambda match: chr(int(match[1], 16)), text)
    return _ESCAPE.sub(lambda match: match[0].upper(), unescaped)


def host_of(parts: SplitResult) -> str:
    """Whom politeness is owed: the host in lower case, with its port unless that is the scheme's own."""
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    if parts.port is None or parts.port == DEFAULT_PORTS.get(parts.scheme.lower()):
        return host
    return f"{host}:{parts.port}"
