"""Tokens: the declared normalisation and nothing else, reserved names refused (M12), and a file that survives only whole."""

import unicodedata

import pytest

from asr.errors import DataError, ModelError, UsageError
from asr.text.tokenizer import Tokenizer, TokenOptions, show_symbol


def characters(*texts: str, **options) -> Tokenizer:
    return Tokenizer.build(texts, TokenOptions(**options))


def test_alphabet_and_round_trip():
    tokenizer = characters("two words", "'tis")
    assert tokenizer.symbols == ("<blank>", " ", "'", "d", "i", "o", "r", "s", "t", "w")
    assert len(tokenizer) == 10
    assert tokenizer.encode("  dot \t is\n") == [3, 5, 8, 1, 4, 7]
    assert tokenizer.decode(tokenizer.encode("  dot \t is\n")) == "dot is"
    assert tokenizer.encode(" \t") == []
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize(
    ("texts", "options", "between"),
    [(["ab cd"], TokenOptions(), [" "]), (["ab"], TokenOptions(), []), (["AA B"], TokenOptions(unit="phones"), [])],
)
def test_what_stands_between_two_texts(texts, options, between):
    tokenizer = Tokenizer.build(texts, options)
    assert [tokenizer.symbols[token] for token in tokenizer.between] == between


def test_phones_are_symbols_between_spaces():
    tokenizer = characters("HH AY", " AY  B ", unit="phones")
    assert tokenizer.symbols == ("<blank>", "AY", "B", "HH")
    assert tokenizer.encode("B AY") == [2, 1]
    assert tokenizer.decode([2, 1]) == "B AY"


@pytest.mark.parametrize(
    ("phone_set", "text", "normal"),
    [
        ("as_is", "AH0_B T_E", "AH0_B T_E"),
        ("arpabet", "AH0_B T_E n", "AH T N"),
        ("timit61", "h# q ax-h", "h# q ax-h"),
        ("timit48", "h# q ax-h kcl", "sil ax cl"),
        ("timit39", "h# q ax-h kcl pau", "sil ah sil sil"),
    ],
)
def test_phone_sets(phone_set, text, normal):
    tokenizer = characters(text, unit="phones", phone_set=phone_set)
    assert tokenizer.normalize(text) == normal
    assert tokenizer.decode(tokenizer.encode(text)) == normal


def test_phones_outside_the_declared_set():
    with pytest.raises(DataError, match=r"outside tokens.phone_set=timit39: XX YY; replace them through tokens.map"):
        characters("aa YY XX", unit="phones", phone_set="timit39")
    tokenizer = characters("aa YY XX", unit="phones", phone_set="timit39", map={"XX": "pau", "YY": ""})
    assert tokenizer.symbols == ("<blank>", "aa", "sil")
    assert tokenizer.unknown_symbols("aa ZZ q ZZ") == ["ZZ", "ZZ"]


@pytest.mark.parametrize(
    ("options", "text", "normal"),
    [
        ({}, "Ab  c", "Ab c"),
        ({"case": "lower"}, "ÀB", "àb"),
        ({"case": "upper"}, "straße", "STRASSE"),
        ({"map": {"&": " and ", "’": "'"}}, "a&b’s", "a and b's"),
        ({"map": {"-": ""}, "case": "lower"}, "E-MAIL", "email"),
        ({"unicode": "NFKC"}, "１２ﬁ\u3000x", "12fi x"),
    ],
)
def test_normalisation(options, text, normal):
    tokenizer = characters("x", **options)
    assert tokenizer.normalize(text) == normal
    assert tokenizer.normalize(normal) == normal


def test_m11_the_same_tokens_however_a_text_is_composed():
    """NFC and NFD, zero-width characters and marks of direction."""
    tokenizer = characters("café")
    for text in (unicodedata.normalize("NFD", "café"), "ca\u200bfé", "\ufeffcafe\u200b\u0301", "\u202bca\u00adfé\u202c"):
        assert tokenizer.encode(text) == tokenizer.encode("café")
    assert characters("x", unicode="none").normalize("e\u0301\u200b") == "e\u0301\u200b"


def test_m09_unknown_symbols_are_listed_and_named():
    tokenizer = characters("abc")
    assert tokenizer.unknown_symbols("a?bñ?") == ["?", "ñ", "?"]
    assert tokenizer.unknown_symbols("cab") == []
    with pytest.raises(DataError, match=r'"a\?bñ\?" holds symbols outside the alphabet: "\?", "ñ" \(U\+00F1\); .*tokens.map'):
        tokenizer.encode("a?bñ?")
    assert characters("abc", map={"ñ": "n", "?": ""}).unknown_symbols("a?ñ?") == ["n"]


@pytest.mark.parametrize("name", ["<blank>", "<unk>", "<s>", "</s>", "\u2581"])
@pytest.mark.parametrize("unit", ["characters", "phones"])
def test_m12_reserved_names_written_out(name, unit):
    with pytest.raises(DataError, match=f"holds {name}, a name the toolkit keeps for itself"):
        characters("a b", f"a {name} b", unit=unit)
    tokenizer = characters("<>/abklnsu", "a b", unit="characters") if unit == "characters" else characters("a b", unit=unit)
    assert tokenizer.unknown_symbols(f"a {name} b") == [name]
    with pytest.raises(DataError, match="outside the alphabet"):
        tokenizer.encode(f"a {name} b")
    assert characters(f"a {name} b", unit=unit, map={name: ""}).symbols[-1] == "b"


def test_m12_reserved_names_after_lowering():
    with pytest.raises(DataError, match="<unk>"):
        characters("A <UNK>", case="lower")


def test_nothing_to_learn():
    with pytest.raises(DataError, match="all training transcripts are empty"):
        characters("", " ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unit": "words"}, 'tokens.unit="words" is not one of characters, phones, bytepairs'),
        ({"case": "title"}, "tokens.case"),
        ({"unicode": "NFD"}, "tokens.unicode"),
        ({"unit": "phones", "phone_set": "cmu"}, "tokens.phone_set"),
        ({"phone_set": "timit39"}, "needs tokens.unit=phones"),
        ({"map": {"": "x"}}, "tokens.map"),
        ({"punctuation": "strip"}, "tokens.punctuation"),
        ({"digits": "words"}, "tokens.digits"),
        ({"unit": "phones", "punctuation": "drop"}, "tokens.punctuation=drop is about written text"),
        ({"unit": "phones", "digits": "ascii"}, "tokens.digits=ascii is about written text"),
        ({"size": 400}, "tokens.size=400 needs tokens.unit=bytepairs"),
        ({"unit": "bytepairs", "size": 2}, "tokens.size=2 is out of range"),
        ({"unit": "bytepairs", "phone_set": "timit39"}, "needs tokens.unit=phones"),
        ({"extra": ["ab"]}, "tokens.extra: 'ab' is not one character"),
        ({"extra": ["\u2581"]}, "is not one character"),
        ({"extra": ["É"], "case": "lower"}, "tokens.extra: 'É' becomes 'é' by the other keys of tokens"),
        ({"unit": "phones", "extra": ["A B"]}, "is not a phone"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(UsageError, match=words):
        TokenOptions(**options)


def test_symbols_beside_those_of_the_transcripts():
    assert characters("b", extra=["ß", " ", "b"]).symbols == ("<blank>", " ", "b", "ß")
    assert characters("B", unit="phones", extra=["AH"]).symbols == ("<blank>", "AH", "B")


def test_a_script_from_right_to_left_stays_in_the_order_it_is_spoken():
    """Points and vowels are symbols of their own, behind the letter they belong to; marks of direction are none."""
    tokenizer = characters("שָׁלוֹם", "\u200fמָה")
    assert tokenizer.encode("שָׁלוֹם") == [tokenizer.symbols.index(one) for one in unicodedata.normalize("NFC", "שָׁלוֹם")]
    assert tokenizer.symbols[1:4] == ("ָ", "ֹ", "ׁ")
    assert tokenizer.decode(tokenizer.encode("מָה שָׁלוֹם".replace(" ", ""))) == "מָהשָׁלוֹם"
    assert [tokenizer.encode(text) for text in ("\u202bמה\u202c", "מה\u200f")] == [tokenizer.encode("מה")] * 2


@pytest.mark.parametrize(
    "text",
    ["გამარჯობა მსოფლიო", "ሰላም ለዓለም", "สวัสดีชาวโลก น้ำ", "नमस्ते दुनिया", "مرحبا بالعالم", "你好世界", "안녕하세요 세계"],
)
def test_any_script(tmp_path, text):
    tokenizer = characters(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    tokenizer.save(tmp_path / "tokens.txt")
    assert Tokenizer.load(tmp_path / "tokens.txt", TokenOptions()).encode(text) == tokenizer.encode(text)


def test_changes_are_those_of_written_text():
    assert characters("x", case="lower").changes("X\u200b") == ["invisible", "case"]
    assert characters("h# q", unit="phones", phone_set="timit39").changes("h#  q") == []


def test_the_file(tmp_path):
    path = tmp_path / "tokens.txt"
    tokenizer = characters("ça va #1")
    tokenizer.save(path)
    assert path.read_text(encoding="utf-8").splitlines()[:4] == ["<blank> 0", "▁ 1", "# 2", "1 3"]
    loaded = Tokenizer.load(path, TokenOptions())
    assert loaded.symbols == tokenizer.symbols
    assert loaded.encode("va ça") == tokenizer.encode("va ça")


def test_the_file_with_phones(tmp_path):
    options = TokenOptions(unit="phones")
    Tokenizer.build(["h# ax-h"], options).save(tmp_path / "tokens.txt")
    assert Tokenizer.load(tmp_path / "tokens.txt", options).symbols == ("<blank>", "ax-h", "h#")
    with pytest.raises(ModelError, match="is not one character"):
        Tokenizer.load(tmp_path / "tokens.txt", TokenOptions())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", r':1: expected "SYMBOL 0", got \'\''),
        ("a 0\nb 1\n", "expected <blank> as symbol 0"),
        ("<blank> 0\n", "no symbol to write"),
        ("<blank> 0\na 1\nb 3\n", r':3: expected "SYMBOL 2", got \'b 3\''),
        ("<blank> 0\na 1\na 2\n", "symbol 'a' stands twice"),
        ("<blank> 0\n\na 1\n", r':2: expected "SYMBOL 1"'),
        ("<blank> 0\na\n", r':2: expected "SYMBOL 1", got \'a\''),
        ("<blank> 0\nab 1\n", "is not one character"),
        (b"<blank> 0\n\xff 1\n", "not UTF-8"),
        (None, "incomplete"),
    ],
)
def test_a_damaged_file(tmp_path, content, words):
    path = tmp_path / "tokens.txt"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelError, match=words) as caught:
        Tokenizer.load(path, TokenOptions())
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("wrong", [0, -1, 3])
def test_ids_outside_the_vocabulary(wrong):
    with pytest.raises(ModelError, match=rf"token id {wrong} is outside 1\.\.2"):
        characters("ab").decode([1, wrong])


@pytest.mark.parametrize(
    ("symbol", "shown"),
    [
        ("a", '"a"'),
        ("\u0301", '"◌\u0301" (U+0301)'),
        ("é", '"é" (U+00E9)'),
        ("\u200d", "U+200D"),
        ("\n", "U+000A"),
        ("AH", '"AH"'),
        (" ", '" "'),
    ],
)
def test_symbols_in_messages(symbol, shown):
    assert show_symbol(symbol) == shown
