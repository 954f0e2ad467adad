"""The model that comes with rtfast: what it says, on sentences that were never in its training."""

import os
import sys

import pytest

import rtfast
from rtfast import cli, loading
from rtfast.translate_command import as_written

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tools", "shipped_model"))
grammar = pytest.importorskip("grammar", reason="the grammar of the shipped model is not beside the tests")
import evaluate  # noqa: E402
import number_words  # noqa: E402


@pytest.fixture(scope="module")
def shipped():
    return rtfast.load()


def test_accuracy_on_sentences_it_never_saw(shipped):
    kinds, wrong = evaluate.evaluate(shipped, 2400)
    right, every = (sum(column) for column in zip(*kinds.values(), strict=True))
    assert every == 2400 and right / every >= 0.99, wrong[:10]
    assert len(kinds) == 8 and all(right / every >= 0.97 for right, every in kinds.values()), kinds


def test_held_out_sentences_are_distinct_and_not_learnt():
    pairs = grammar.held_out_pairs(2400)
    assert len({english for _, english, _ in pairs}) == 2400
    assert all(grammar.is_held_out(english) for _, english, _ in pairs)
    assert not any(grammar.is_held_out(english) for english, _ in grammar.lex.PHRASES)


def test_phrases(shipped):
    for english, spanish in grammar.lex.PHRASES:
        assert " ".join(shipped.tokenizer.tokens(shipped.generate(english)[:-1])) == spanish


@pytest.mark.parametrize("english, spanish", [
    ("hello world", "hola mundo"), ("the red house", "la casa roja"),
    ("the red house is big", "la casa roja es grande"),
    ("she does not buy the white shoes", "ella no compra los zapatos blancos"),
    ("did your brother see the girls?", "¿tu hermano vio a las niñas?"),
    ("we will dance in the park tomorrow", "nosotros bailaremos en el parque mañana"),
    ("there are twenty one chairs in the kitchen", "hay veintiuna sillas en la cocina"),
    ("it is half past three", "son las tres y media"), ("it is quarter to one", "es la una menos cuarto"),
    ("monday the first of may", "el lunes primero de mayo"), ("the cats are tired", "los gatos están cansados"),
    ("three hundred forty five", "trescientos cuarenta y cinco"), ("twenty one thousand", "veintiún mil"),
])
def test_sentences(shipped, english, spanish):
    assert shipped.translate(english) == spanish


def test_numbers_in_words():
    assert number_words.spanish(31, False) == "treinta y un" and number_words.spanish(200, True) == "doscientas"
    assert number_words.spanish(100_100) == "cien mil cien" and number_words.spanish(1001) == "mil uno"
    assert number_words.english(999_999) == "nine hundred ninety nine thousand nine hundred ninety nine"


def test_size():
    files = [os.path.join(loading.SHIPPED, name) for name in os.listdir(loading.SHIPPED)]
    assert {os.path.basename(path) for path in files} == {"config.json", "model.safetensors"}
    assert os.path.getsize(os.path.join(loading.SHIPPED, "model.safetensors")) <= 2_000_000


def test_command(capsys):
    assert cli.main(["translate", "Hello world"]) == 0
    assert capsys.readouterr().out == "Hola mundo\n"
    assert cli.main(["translate", "hello world", "good morning"]) == 0
    assert capsys.readouterr().out == "hola mundo\nbuenos días\n"


def test_words_that_it_does_not_know(capsys):
    assert cli.main(["translate", "the crocodile"]) == 2
    assert "'crocodile' is not in the vocabulary" in capsys.readouterr().err
    assert cli.main(["translate", "hello world", "the crocodile"]) == 2
    assert "text 2: " in capsys.readouterr().err


def test_a_sentence_that_is_too_long(capsys):
    assert cli.main(["translate", "no " * 65]) == 2
    assert "65 words, but the model reads at most 64" in capsys.readouterr().err


def test_lines_of_stdin(capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("hello world\n\n" + "good morning\n" * 70 + "no"))
    assert cli.main(["translate"]) == 0
    assert capsys.readouterr().out.split("\n") == ["hola mundo", "", *["buenos días"] * 70, "no", ""]


def test_capital_letters():
    assert as_written("¿cómo estás?", "How are you?") == "¿Cómo estás?"
    assert as_written("hola", "hello") == "hola" and as_written("", "A") == "" and as_written("hola", "1") == "hola"
