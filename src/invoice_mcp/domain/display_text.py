r"""Shows untrusted text in sentences of ours: in summaries, forms, errors and logs. Pure.

Customers, descriptions, names, comments, reasons and ids come from agents, persons and other systems. In a sentence
they are quoted on one line. The text can't close the quotation marks, hides no characters and contains no Markdown or
HTML markup. Characters that would break this are shown as Python escapes: `\n`, `\x22`. An escape is a backslash and a
letter, which CommonMark leaves unchanged (it removes a backslash before punctuation, so `\"` would close the quotation
there). A backslash of the text is shown as `\x5c`, so the display is unambiguous.

For display only. What is stored, compared, or sent to the ERP and the gateway is unchanged.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

MAX_SHOWN = 200
"""Default maximum length of a text in a sentence, in characters."""

# More marks than this on one character would cover other lines. Vietnamese needs two, Hebrew three, Tibetan four.
_MAX_MARKS = 4

# Default_Ignorable_Code_Point of Unicode 16.0, DerivedCoreProperties.txt: first and last of each range. Python's
# unicodedata lacks this property. Unassigned code points in these ranges are reserved for it.
DEFAULT_IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
_IGNORABLE = frozenset(chr(code) for first, last in DEFAULT_IGNORABLE for code in range(first, last + 1))
# Letters, marks or symbols by their properties, but with an empty glyph: the Braille blank, the object replacement
# character, the Khitan filler and the musical null notehead.
_EMPTY_GLYPHS = frozenset("\u2800\ufffc\U00016fe4\U0001d159")
# Controls, formats, surrogates, private use, unassigned, and all separators but the space.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})

_ZWNJ, _ZWJ = "\u200c", "\u200d"
_VIRAMA = 9
_EMOJI_STYLE = frozenset("\ufe0e\ufe0f")

# Characters that look like a double quotation mark: confusable with it by UTS #39, and the ornamental ones.
# `_is_markup` handles Hebrew gershayim.
_DOUBLE_QUOTES = frozenset(
    '"\u201c\u201d\u201e\u201f\u2033\u2036\u02ba\u02dd\u02ee\u02f6\u1cd3\u275d\u275e\u3003\u301d\u301e\u301f\uff02'
)
_DOUBLE_QUOTES |= frozenset("\U0001f676\U0001f677\U0001f678")
# Two of these side by side look like one.
_SINGLE_QUOTES = frozenset("'\u2018\u2019\u201b\u02b9\u02bb\u02bc\u02bd\u2032\u2035\u00b4\uff07")
_SINGLE_QUOTES |= frozenset("\u0384\u055a\u05f3\u1fbd\u201a\ua78c")

# Code, links, images, and the first character of an escape.
_ALWAYS_MARKUP = frozenset("`[]\\")
# Emphasis, strikethrough and tags: between two spaces they are no markup.
_MARKUP_BESIDE_TEXT = frozenset("*~<")

_PLAIN = re.compile(r"[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*")
_MAX_PLAIN = 64
# Most texts: a fast path.
_PLAIN_WORDS = re.compile(r"[A-Za-z0-9]+(?: [A-Za-z0-9]+)*")


def quoted(text: str, max_length: int = MAX_SHOWN) -> str:
    """Untrusted text as shown in a sentence: in quotation marks, escaped, and truncated.

    Args:
        max_length: Characters between the quotation marks, escapes counted as shown. The number of characters left out
            follows the closing mark.
    """
    if len(text) <= max_length and _PLAIN_WORDS.fullmatch(text):
        return f'"{text}"'
    # Later characters are never shown: each takes at least one place.
    shown, count = _escape_to_fit(text[:max_length], max_length)
    rest = len(text) - count
    more = f" (and {rest} more character{'s' * (rest != 1)})" if rest else ""
    return f'"{shown}"{more}'


# Cached: one answer renders a report's summary several times, with the same names.
@lru_cache(maxsize=256)
def _escape_to_fit(head: str, room: int) -> tuple[str, int]:
    """The beginning of a text, escaped to fit `room` characters, and how many of its characters that shows."""
    shown: list[str] = []
    for piece in _display_characters(head, neutral=True):
        room -= len(piece)
        if room < 0:
            break
        shown.append(piece)
    return "".join(shown), len(shown)


def plain_or_quoted(text: str, max_length: int = MAX_SHOWN) -> str:
    """An id, code or field name: unchanged if it is one plain ASCII word, quoted otherwise."""
    return text if len(text) <= _MAX_PLAIN and _PLAIN.fullmatch(text) else quoted(text, max_length)


def printable(text: str, max_length: int = 300) -> str:
    """Text of another system as data: one line of at most `max_length` characters, without hidden characters.

    Quotation marks and markup are kept. In a sentence, use `quoted`.
    """
    # Truncated before each character is examined: the text may be as long as a whole response.
    words = " ".join(text[: 4 * max_length].split())
    shown = "".join(_display_characters(words, neutral=False))
    return shown if len(shown) <= max_length else shown[: max_length - 1] + "…"


def is_hidden(char: str) -> bool:
    """Whether a character is invisible, a separator other than the plain space, or unknown to Python's Unicode."""
    if char == " ":
        return False
    return unicodedata.category(char) in _HIDDEN_CATEGORIES or char in _IGNORABLE or char in _EMPTY_GLYPHS


def is_invisible(text: str) -> bool:
    """Whether the text consists of invisible characters, spaces, and marks without a character to be on.

    Unassigned code points may be letters of a newer Unicode, and private ones may have a glyph: both are shown as
    escapes, but do not count as invisible.
    """
    return all(char == " " or _is_mark(char) or (is_hidden(char) and not _may_be_visible(char)) for char in text)


def _may_be_visible(char: str) -> bool:
    return unicodedata.category(char) in {"Cn", "Co"} and char not in _IGNORABLE


def _display_characters(text: str, *, neutral: bool) -> Iterator[str]:
    """Each character as shown: itself, or an escape.

    Args:
        neutral: Also escape what would close the quotation, and markup.
    """
    # Some entities need no semicolon; `html.unescape` implements the rules of HTML.
    has_entities = neutral and html.unescape(text) != text
    is_carried = False  # whether the previous character is shown as itself, so that marks and joiners may follow it
    marks = 0
    for at, char in enumerate(text):
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        if _is_mark(char):
            marks += unicodedata.category(char) != "Mc"
            is_kept = is_carried and marks <= _MAX_MARKS
        else:
            marks, is_kept = 0, True
        if is_hidden(char):
            is_kept = is_carried and _is_required_joiner(before, char, after)
        elif neutral and is_kept:
            is_kept = not _is_markup(text, at) and not (char == "&" and has_entities)
        yield char if is_kept else _escape(char)
        is_carried = is_kept and char != " "


def _is_mark(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


def _is_required_joiner(before: str, char: str, after: str) -> bool:
    """Whether an invisible character is required to write its neighbours.

    Joiners after a virama and between Arabic letters, close to RFC 5892, appendices A.1 and A.2; and those in an emoji.
    """
    if char in _EMOJI_STYLE:
        return unicodedata.category(before) == "So"
    if char not in {_ZWNJ, _ZWJ}:
        return False
    if unicodedata.combining(before) == _VIRAMA:
        return True
    if char == _ZWNJ:
        return _is_named("ARABIC LETTER", before) and _is_named("ARABIC LETTER", after)
    # A style or a skin tone may follow an emoji.
    joins = unicodedata.category(before) == "So" or before in _EMOJI_STYLE or "\U0001f3fb" <= before <= "\U0001f3ff"
    return joins and after != "" and unicodedata.category(after) == "So"


def _is_named(kind: str, char: str) -> bool:
    return char != "" and unicodedata.name(char, "").startswith(kind)


def _is_markup(text: str, at: int) -> bool:
    """Whether this character would close the quotation, or may be markup in a host that renders Markdown or HTML.

    The beginning of a web address is escaped, so that no host makes it a link. A bare domain name, "Booking.com", is
    kept: it is an ordinary name, and a link made of it leads to the site it names.
    """
    char = text[at]
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if char in _DOUBLE_QUOTES or char in _ALWAYS_MARKUP:
        return True
    if char in _MARKUP_BESIDE_TEXT:
        return not before == after == " "
    if char in _SINGLE_QUOTES:
        return before in _SINGLE_QUOTES or after in _SINGLE_QUOTES
    match char:
        case "_":
            return not (before.isalnum() and after.isalnum())
        case " ":
            # A wide gap may look like a line break.
            return before == " "
        case "/":
            return before == ":" and after == "/"
        case ".":
            return text[max(at - 3, 0) : at].lower() == "www"
        case "@":
            # The second of two spaces is shown as an escape, which ends in a digit: `\x20@example.com`.
            is_separate = before in {"", " "} and text[at - 2 : at] != "  "
            return after.isalnum() and not is_separate
        case "\u05f4":  # gershayim, as in Hebrew for "Ltd."
            return not (_is_named("HEBREW LETTER", before) and _is_named("HEBREW LETTER", after))
    return False


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}" if " " <= char <= "~" else ascii(char)[1:-1]
