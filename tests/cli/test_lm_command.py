"""`asr-lm`: train and measure, and its mistakes."""

import pytest

from asr.cli.lm import main


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat\nthe dog sat\na cat and a dog\n" * 5)
    return path


def test_train_then_perplexity(text, tmp_path, capsys):
    out = tmp_path / "m.arpa"
    assert main(["train", f"text={text}", "order=2", f"out={out}", "unit=word"]) == 0
    assert out.exists()
    assert main(["perplexity", f"lm={out}", f"text={text}", "unit=word"]) == 0
    assert "perplexity" in capsys.readouterr().out


def test_text_goes_through_the_rules_of_the_recogniser(tmp_path):
    """A model of words knows them as the recogniser writes them: without capitals, marks and presentation forms."""
    text, out = tmp_path / "text.txt", tmp_path / "m.arpa"
    text.write_text("“The CAT,” it’s ﬁne — no. ４!\n" * 9, encoding="utf-8")
    words = [f"text={text}", "order=1", f"out={out}", "case=lower", "unicode=folded", "punctuation=drop", "digits=ascii"]
    assert main(["train", *words]) == 0
    known = {line.split("\t")[1].split()[0] for line in out.read_text(encoding="utf-8").splitlines() if line.count("\t")}
    assert known - {"<s>", "</s>", "<unk>"} == {"the", "cat", "it's", "fine", "no", "4"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "no command"),
        (["trian"], 2, "did you mean 'train'"),
        (["train", "text=TEXT", "order=0", "out=OUT"], 2, "order"),
        (["train", "text=TEXT", "order=1", "out=OUT", "punctuation=strip"], 2, "punctuation must be one of keep, plain, drop"),
        (["train", "text=TEXT", "order=1", "out=OUT", "unit=phone", "digits=ascii"], 2, "do not go with unit=phone"),
        (["train", "text=missing.txt", "order=2", "out=OUT"], 3, "missing.txt: no such file"),
        (["perplexity", "lm=TEXT", "text=TEXT"], 4, "text.txt"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_exit_code(words, code, message, text, tmp_path, capsys):
    filled = [word.replace("TEXT", str(text)).replace("OUT", str(tmp_path / "o.arpa")) for word in words]
    assert main(filled) == code
    err = capsys.readouterr().err.strip()
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
