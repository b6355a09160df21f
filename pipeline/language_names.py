"""Language codes into the names that a prompt calls languages by."""

from __future__ import annotations

SOURCE = "source"
"""`--language source`: a summary is written in the language of its page."""

NAMES = {
    **{"ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish"},
    **{"de": "German", "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian"},
    **{"fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian"},
    **{"id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ko": "Korean", "lt": "Lithuanian"},
    **{"lv": "Latvian", "ms": "Malay", "nb": "Norwegian", "nl": "Dutch", "nn": "Norwegian", "no": "Norwegian"},
    **{"pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian"},
    **{"sr": "Serbian", "sv": "Swedish", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tr": "Turkish"},
    **{"uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese"},
}
"""ISO 639-1 code → the English name."""


def code_of(tag: str) -> str:
    """The language of a BCP 47 tag, in lower case: `de` of `de-AT`; empty if it is none that has a name here."""
    code = tag.strip().lower().replace("_", "-").partition("-")[0]
    return code if code in NAMES else ""


def named(tag: str) -> str:
    """How a prompt calls the language of a tag; what the text is written in where that is not known."""
    return NAMES.get(code_of(tag), "the language of the text")
