"""The declared changes of a transcript: M11 of the catalogue in every form, any script, and the count of what changes."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import UsageError
from asr.text.normalize import DIGITS, PUNCTUATION, TextRules, normalize_text, runs_leftwards, scripts_of, text_changes
from asr.text.tokenizer import Tokenizer, TokenOptions

OWN = TextRules(unicode="folded", case="lower", punctuation="drop", digits="ascii")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Café", "café"),
        (unicodedata.normalize("NFD", "CAFÉ"), "café"),
        ("ca\u200bf\u00adé\ufeff", "café"),
        ("\u202bcafé\u202c \u2067x\u2069\u061c\u200f", "café x"),
        ("１２３ ＡＢ", "123 ab"),
        ("“it’s”", "it's"),
        ("‚rock ‘n’ roll‘", "rock n roll"),
        ("ﬁne ﬂow", "fine flow"),
        ("ｶﾞｷﾞ", "ガギ"),
        ("\u00a0two\u2003 words\t\n", "two words"),
    ],
)
def test_m11_one_text_in_all_its_guises(text, normal):
    assert normalize_text(text, OWN) == normal
    tokenizer = Tokenizer.build([normal], TokenOptions(**vars(OWN)))
    assert tokenizer.encode(text) == tokenizer.encode(normal)


@pytest.mark.parametrize(
    ("rule", "text", "normal"),
    [
        ("keep", "“Wait…” — he said!", "“Wait…” — he said!"),
        ("plain", "“Wait…” — he’s «here», 5′", '"Wait..." - he\'s "here", 5\''),
        ("drop", "“Wait…” — he’s ‘here’!", "Wait he's here"),
        ("drop", "well-known - twenty-one", "well-known twenty-one"),
        ("drop", "one,two;three/four_five", "one two three four five"),
        ("drop", "3.5 at 10:30, 1,000.", "3.5 at 10:30 1,000"),
        ("drop", "5% of AT&T @ home §3", "5% of AT&T @ home §3"),
        ("drop", "2 + 2 = 4 €", "2 + 2 = 4 €"),
        ("drop", "¿Qué? ¡Sí!", "Qué Sí"),
        ("drop", "col·legi", "col·legi"),
        ("drop", "בית־ספר צה״ל, ג׳ירפה.", "בית־ספר צה״ל ג׳ירפה"),
        ("drop", "مرحبا، كيف حالك؟ ٣٫٥٪", "مرحبا كيف حالك ٣٫٥٪"),
        ("drop", "Ինչո՞ւ եք եկել։", "Ինչու եք եկել"),
        ("drop", "ሰላም፡ዓለም።", "ሰላም ዓለም"),
        ("drop", "नमस्ते। कैसे हैं?", "नमस्ते कैसे हैं"),
        ("drop", "「はい」、そう。", "はい そう"),
        ("drop", "?!", ""),
    ],
)
def test_punctuation(rule, text, normal):
    assert normalize_text(text, TextRules(punctuation=rule)) == normal


@pytest.mark.parametrize(
    ("digits", "text", "normal"),
    [("keep", "٣ ३ ３ 3", "٣ ३ ３ 3"), ("ascii", "٣ ३ ３ 3 ² ½ 三", "3 3 3 3 ² ½ 三"), ("ascii", "𝟘𝟙", "01")],
)
def test_digits_stay_unless_a_rule_says_otherwise(digits, text, normal):
    assert normalize_text(text, TextRules(digits=digits)) == normal


def test_presentation_forms_are_folded_and_spelling_is_not():
    """NFKC would take Thai SARA AM apart and rewrite fractions; `folded` changes how letters are shown, not which they are."""
    shaped = "\ufee3\ufeae\ufea3\ufe92\ufe8e"
    assert normalize_text(shaped, TextRules(unicode="folded")) == "مرحبا"
    assert normalize_text(shaped, TextRules(unicode="NFC")) == shaped
    for text in ("น้ำ", "½", "x²", "㎏", "가"):
        assert normalize_text(text, TextRules(unicode="folded")) == text
    assert normalize_text("น้ำ", TextRules(unicode="NFKC")) != "น้ำ"


def test_joiners_that_spell_stay():
    persian, conjunct = "می\u200cروم", "क्\u200dष"
    assert normalize_text(persian, OWN) == persian
    assert normalize_text(conjunct, OWN) == conjunct


def test_the_order_of_the_steps():
    rules = TextRules(case="upper", punctuation="drop", digits="ascii", map={"3": " DREI ", "É": "E"})
    assert normalize_text("é, ٣x", rules) == "E DREI X"
    assert normalize_text("a&b", TextRules(map={"&": " and ", "a": "", "n": "m"})) == "md b"


def test_what_changed_is_named_step_by_step():
    rules = TextRules(unicode="folded", case="lower", punctuation="drop", digits="ascii", map={"ß": "ss"})
    assert text_changes("plain words", rules) == []
    assert text_changes("e\u0301\u200b", rules) == ["invisible", "unicode"]
    assert text_changes("Who?", rules) == ["case", "punctuation"]
    assert text_changes("٣ ß", rules) == ["digits", "map"]
    assert text_changes(" a  b", rules) == ["spaces"]
    assert text_changes("a\u200b ", rules) == ["spaces", "invisible"]
    assert text_changes("e\u0301\u200b", TextRules(unicode="none")) == []


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(max_size=12),
    form=st.sampled_from(["NFC", "folded", "NFKC", "none"]),
    case=st.sampled_from(["keep", "lower"]),
    punctuation=st.sampled_from(PUNCTUATION),
    digits=st.sampled_from(DIGITS),
)
def test_what_is_normal_stays_as_it_is(text, form, case, punctuation, digits):
    rules = TextRules(unicode=form, case=case, punctuation=punctuation, digits=digits)
    normal = normalize_text(text, rules)
    assert normalize_text(normal, rules) == normal
    assert text_changes(normal, rules) == []
    assert (text_changes(text, rules) == []) == (normal == text)


def test_scripts_and_their_direction():
    assert scripts_of("Hello, мир миру 123") == ["Cyrillic", "Latin"]
    assert scripts_of("გამარჯობა") == ["Georgian"]
    assert scripts_of("12 ?!") == []
    assert runs_leftwards("שלום עולם abc")
    assert not runs_leftwards("hello שלום world")
    assert not runs_leftwards("123")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"unicode": "NFD"}, 'x.unicode="NFD" is not one of NFC, folded, NFKC, none'),
        ({"punctuation": "strip"}, 'x.punctuation="strip" is not one of keep, plain, drop'),
        ({"digits": "words"}, 'x.digits="words"'),
        ({"map": {"": "a"}}, "x.map: the empty string"),
    ],
)
def test_rules_are_checked(rules, words):
    with pytest.raises(UsageError, match=words):
        TextRules(**rules).check("x.")
