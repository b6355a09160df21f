"""Small PDFs: pages of lines in a font that every reader has."""

from __future__ import annotations

from collections.abc import Sequence


def make(pages: Sequence[Sequence[str]], info: str = "", catalog: str = "", font: str = "", trailer: str = "") -> bytes:
    """A PDF of pages of lines. Lines are Latin-1, or UTF-16 with a `font` that is one of its own kind."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        f"<</Type/Catalog/Pages 2 0 R{catalog}>>".encode(),
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode(),
        (font or "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>").encode(),
    ]
    for number, lines in enumerate(pages):
        content = _content(lines, bool(font))
        objects += [
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F 3 0 R>>>>/Contents %d 0 R>>"
            % (5 + 2 * number),
            b"<</Length %d>>stream\n%b\nendstream" % (len(content), content),
        ]
    objects.append(f"<<{info}>>".encode("latin-1"))
    return _file(objects, trailer)


def _content(lines: Sequence[str], is_wide: bool) -> bytes:
    def shown(line: str) -> bytes:
        if is_wide:
            return b"<" + line.encode("utf-16-be").hex().encode() + b">"
        escaped = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        return b"(" + escaped.encode("cp1252") + b")"

    return (
        b"BT /F 11 Tf 50 800 Td 14 TL " + b" ".join(shown(line) + b" Tj T*" for line in lines) + b" ET"
        if lines
        else b""
    )


def _file(objects: Sequence[bytes], trailer: str) -> bytes:
    data, places = b"%PDF-1.7\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    end = b"trailer<</Size %d/Root 1 0 R/Info %d 0 R%b>>\nstartxref\n%d\n%%%%EOF\n" % (
        size,
        len(objects),
        trailer.encode("latin-1"),
        len(data),
    )
    return data + b"xref\n0 %d\n0000000000 65535 f \n%b" % (size, table) + end
