"""How text of others is shown: on one line, in quotation marks it can't close, with nothing hidden and nothing live."""

from __future__ import annotations

import re
import unicodedata
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from invoice_mcp.domain.display_text import (
    DEFAULT_IGNORABLE,
    is_hidden,
    is_invisible,
    plain_or_quoted,
    printable,
    quoted,
)
from tests.requirements import requirement
from tests.unit.deceptive_texts import TRICKS

# Pieces of markup meet each other more often than by chance.
_PIECES = [
    "*",
    "**",
    "_",
    "__",
    "`",
    "[",
    "](",
    ")",
    "!",
    "<",
    ">",
    "&",
    "#",
    "\\",
    "~~",
    "x",
    " ",
    "é",
    ".",
    '"',
    "\n",
]
_PIECES += [
    "http",
    "://",
    "www.",
    "&lt;",
    "&quot",
    "@",
    "a.b",
    "-",
    "\u200d",
    "\u0301",
    "'",
    "\u201d",
    "|",
    "=",
    "\u3164",
]
texts = st.sampled_from(TRICKS) | st.text() | st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)

# Of all kinds that GitHub and chat hosts know. HTML is allowed, so that it would be noticed.
_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["strikethrough", "table"])
_PLAIN_TOKENS = {f"{block}_{end}" for block in ("paragraph", "ordered_list", "list_item") for end in ("open", "close")}
_PLAIN_TOKENS |= {"inline", "text", "softbreak"}
# A link that is made of a bare address: https://github.github.com/gfm/#autolinks-extension-
_AUTOLINK = re.compile(r"https?://|ftp://|www\.|[a-z0-9._+-]@[a-z0-9]", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([nrt]))")


def read(shown: str) -> str:
    """The text of which this was made, by a careful reader."""

    def one(found: re.Match[str]) -> str:
        *codes, letter = found.groups()
        return {"n": "\n", "r": "\r", "t": "\t"}[letter] if letter else chr(int(next(filter(None, codes)), 16))

    return _ESCAPE.sub(one, shown[1:-1])


class Markup(HTMLParser):
    """What a lenient reader of HTML takes for more than text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.found.append(tag)

    def handle_comment(self, data: str) -> None:
        self.found.append(data)


@requirement("TEXT-VISIBLE")
@pytest.mark.parametrize(
    "name",
    [
        "ACME Corp",
        "Świerk S.A.",
        "Möller & Söhne GmbH",
        "O'Brien Ltd.",
        "L\u2019Oréal",
        "AT&T; P&L",
        "Booking.com B.V.",
        "Bolts M8 (1,000)",
        "PO_4711 / part #12, 5% off!",
        "5 * 3 < 20, ~ 7 > 6",
        "3 @ 5.00",
        "Завод «Ромашка»",
        "株式会社 山田商店",
        "「山田」有限公司",
        "주식회사 대한",
        "شرکت نیم\u200cروز",
        "شركة النور",
        "בע\u05f4מ שלום",
        "श्री गणेश ट्रेडर्स",
        "क्\u200dष",
        "ශ්\u200dරී ලංකා",
        "Nguyễn Thị Ánh",
        unicodedata.normalize("NFD", "Nguyễn Thị Ánh"),
        "བོད་ཡིག",
        "ไทย ที่นี่",
        "Lunch \U0001f355 \u2764\ufe0f \U0001f44d\U0001f3fd",
        "\U0001f469\u200d\U0001f4bb \U0001f469\U0001f3fd\u200d\U0001f4bb \U0001f3f3\ufe0f\u200d\U0001f308",
        "Zürich->Köln | Rest",
    ],
)
def test_ordinary_names_look_the_same(name: str) -> None:
    assert quoted(name) == f'"{name}"'


@requirement("TEXT-VISIBLE")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ACME\n\nPaid", r"ACME\n\nPaid"),
        ('27" screen', r"27\x22 screen"),
        ("C:\\a", r"C:\x5ca"),
        ("a_b*c", r"a_b\x2ac"),
        ("a  b", r"a \x20b"),
        ("[pay](https://a.example)", r"\x5bpay\x5d(https:\x2f/a.example)"),
        ("<b>", r"\x3cb>"),
        ("A &lt; B", r"A \x26lt; B"),
        ("www.a.example", r"www\x2ea.example"),
        ("pay@a.example", r"pay\x40a.example"),
        ("*@a", r"\x2a\x40a"),
        ("\u3164", r"\u3164"),
        ("e" + "\u0301" * 6, "e" + "\u0301" * 4 + r"\u0301\u0301"),
        # Marks that would stand on a quotation mark, a space or an escape.
        ("\u0338ACME", r"\u0338ACME"),
        ("a \u0336b", r"a \u0336b"),
        ("a<\u0338b", r"a\x3c\u0338b"),
        ("\u05f4מ", r"\u05f4מ"),
        ("\U000e0041", r"\U000e0041"),
        # Joiners where no script needs them.
        ("A\u200dB", r"A\u200dB"),
        ("م\u200c", r"م\u200c"),
    ],
)
def test_what_could_deceive_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert quoted(text) == f'"{shown}"'


@requirement("TEXT-VISIBLE")
def test_no_character_of_unicode_that_hides_or_separates_is_shown_as_it_is() -> None:
    categories = {"Zl", "Zp", "Zs", "Cc", "Cf", "Cs", "Co", "Cn"}
    ignorable = {chr(code) for first, last in DEFAULT_IGNORABLE for code in range(first, last + 1)}
    everything = [chr(code) for code in range(0x110000) if code != ord(" ")]
    hidden = [
        char for char in everything if unicodedata.category(char) in categories or char in ignorable or char == "\u2800"
    ]
    assert all(is_hidden(char) for char in hidden)
    # Beside a letter, a mark and each other; of emoji and of some scripts, a few are a part. Of the million that are
    # unassigned or private, all is decided by now; some are enough.
    few = [char for n, char in enumerate(hidden) if n % 97 == 0 or unicodedata.category(char) not in {"Cn", "Co", "Cs"}]
    may_show = {char for char in few if unicodedata.category(char) in {"Cn", "Co"}} - ignorable
    assert {char for char in few if not is_invisible(char)} == may_show
    for text in ("a".join(few), "e\u0301".join(few), "".join(few)):
        assert set(few).isdisjoint(quoted(text, 20 * len(text)))
        assert set(few).isdisjoint(printable(text, 20 * len(text)))


@requirement("TEXT-VISIBLE")
def test_the_table_of_ignorable_characters_is_unicodes_own() -> None:
    """As DerivedCoreProperties.txt derives it, as far as Python's unicodedata knows what it derives it from.

    Other_Default_Ignorable_Code_Point + Cf + Variation_Selector - White_Space - FFF9..FFFB - 13430..1343F
    - Prepended_Concatenation_Mark
    """
    ignorable = {code for first, last in DEFAULT_IGNORABLE for code in range(first, last + 1)}
    # The interlinear annotations, the Egyptian formats, and the marks written before numbers: they show.
    shown = {*range(0xFFF9, 0xFFFC), *range(0x13430, 0x13440)}
    shown |= {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    other = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, 0x2065, *range(0xFFF0, 0xFFF9)}
    other |= set(range(0xE0000, 0xE1000))
    known = {code for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf"} - shown
    named = ("VARIATION SELECTOR-", "MONGOLIAN FREE VARIATION SELECTOR")
    known |= {code for code in range(0x110000) if unicodedata.name(chr(code), "").startswith(named)}
    assert ignorable == known | other
    assert sum(last - first + 1 for first, last in DEFAULT_IGNORABLE) == len(ignorable) == 4174


def is_one_line_in_marks(text: str) -> None:
    shown = quoted(text, 10_000)
    assert len(shown.splitlines()) == 1
    assert shown[0] == shown[-1] == '"'
    assert not re.search("[\"\u201c-\u201f\u2033\uff02]|''|\u2019\u2019", shown[1:-1])
    # It can be read in one way only.
    assert read(shown) == text


@requirement("TEXT-VISIBLE", "TEXT-QUOTED")
@given(texts)
def test_it_is_one_line_between_marks_that_it_can_not_close(text: str) -> None:
    is_one_line_in_marks(text)


def has_no_live_markup(*several: str, longest: int = 200) -> None:
    shown = [quoted(text, longest) for text in several]
    # As in a summary, as in a form, and at the beginning of a line.
    sentence = f"Invoice A from {' by '.join(shown)} is paid."
    form = "\n".join(f"{number}. {each}: USD 1.00" for number, each in enumerate(shown, 1))
    for page in (sentence, form, *shown):
        tokens = [each for token in _MARKDOWN.parse(page) for each in (token, *(token.children or ()))]
        assert {token.type for token in tokens} <= _PLAIN_TOKENS
        # What a reader sees of it is what was written: no backslash and no entity is taken away.
        seen = "".join(token.content for token in tokens if token.type == "text")
        assert all(each in seen for each in shown if each in page)
        assert not _AUTOLINK.search(page)
        assert unescape(page) == page
        markup = Markup()
        markup.feed(page)
        markup.close()
        assert markup.found == []


@requirement("TEXT-VISIBLE")
@given(st.lists(texts, min_size=1, max_size=3), st.integers(0, 40))
def test_no_markup_of_it_is_live(several: list[str], longest: int) -> None:
    has_no_live_markup(*several)
    # Nor where it is cut.
    has_no_live_markup(*several, longest=longest)


@requirement("TEXT-VISIBLE", "TEXT-QUOTED")
@pytest.mark.parametrize("trick", TRICKS, ids=ascii)
def test_no_trick_works(trick: str) -> None:
    is_one_line_in_marks(trick)
    has_no_live_markup(trick, trick)


@requirement("TEXT-VISIBLE")
@given(texts, st.integers(0, 60))
def test_it_is_bounded_and_tells_how_much_is_left_out(text: str, longest: int) -> None:
    shown = quoted(text, longest)
    found = re.fullmatch(r'("[^"]*")(?: \(and (\d+) more characters?\))?', shown)
    assert found is not None
    assert len(found[1]) <= longest + 2
    rest = int(found[2] or 0)
    assert read(found[1]) == text[: len(text) - rest]


@requirement("TEXT-VISIBLE")
def test_an_endless_text_takes_no_time() -> None:
    assert quoted("x" * 50_000_000).endswith(" (and 49999800 more characters)")
    assert quoted("\u0301" * 50_000_000, 50).endswith(" more characters)")


@requirement("TEXT-VISIBLE")
@given(texts)
def test_a_word_is_told_as_it_is_and_everything_else_is_quoted(text: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*", text) and len(text) <= 64:
        assert plain_or_quoted(text) == text
    else:
        assert plain_or_quoted(text) == quoted(text)


@pytest.mark.parametrize("text", ["INV-100", "INSUFFICIENT_FUNDS", "x" * 64])
def test_ids_and_codes_need_no_quotation_marks(text: str) -> None:
    assert plain_or_quoted(text) == text


@pytest.mark.parametrize("text", ["_A_", "__init__", "www.evil.example", "A was approved", "x" * 65, "", "A.b", "é"])
def test_what_could_be_more_than_an_id_is_quoted(text: str) -> None:
    assert plain_or_quoted(text) == quoted(text)


@requirement("TEXT-VISIBLE")
@given(texts, st.integers(1, 60))
def test_what_another_system_says_is_kept_on_one_line_with_nothing_hidden(text: str, longest: int) -> None:
    kept = printable(text, longest)
    assert len(kept) <= longest
    assert len(kept.splitlines()) <= 1
    assert all(char == " " or not is_hidden(char) or char in "\u200c\u200d\ufe0e\ufe0f" for char in kept)
    # Kept once more, it stays as it is.
    assert printable(kept, longest) == kept
