"""The word tokenizer: the article's words to ids and back."""

import json
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subprocesses import WATCHED

from rtfast.tokenizer import WordTokenizer

with open(os.path.join(os.path.dirname(__file__), "data", "random_transformer.json")) as _file:
    VOCABULARY = json.load(_file)["vocabulary"]

ARTICLE = WordTokenizer(VOCABULARY)
PROSE = WordTokenizer(
    ["SOS", "EOS", "UNK", "don't", "don", "'", "t", "...", ".", ",", "(", ")", "e.g.", "Paris", "paris", "it",
     "?!", "?", "École", "école"], unknown="UNK")


def words(text, tokenizer=PROSE):
    return tokenizer.tokens(tokenizer.encode(text))


def test_the_articles_words():
    assert ARTICLE.encode("hello world") == [0, 2]
    assert ARTICLE.encode("Hello World") == [0, 2]
    assert ARTICLE.encode("  hola\tmundo\n") == [8, 1]
    assert ARTICLE.encode("how?") == ARTICLE.encode("how ?") == [3, 4]
    assert ARTICLE.encode("SOS hola EOS") == [6, 8, 5]
    assert ARTICLE.encode("") == ARTICLE.encode(" \n ") == []
    assert (ARTICLE.sos_id, ARTICLE.eos_id, len(ARTICLE)) == (6, 5, 10)
    assert ARTICLE.vocabulary == tuple(VOCABULARY)
    assert all(type(i) is int for i in ARTICLE.encode("hello world"))


def test_decoding():
    assert ARTICLE.decode([6, 8, 1, 4, 5]) == "hola mundo?"
    assert ARTICLE.decode([6, 8, 1, 4, 5], skip_special=False) == "SOS hola mundo? EOS"
    assert ARTICLE.decode([]) == ARTICLE.decode([5]) == ""
    assert ARTICLE.decode([4]) == "?"
    assert ARTICLE.tokens(np.array([0, 2], np.int32)) == ["hello", "world"]
    assert ARTICLE.tokens(iter((6, 5))) == ["SOS", "EOS"]
    assert PROSE.decode(PROSE.encode("(it, don't...) it.")) == "(it, don't...) it."


def test_case_is_kept_where_the_vocabulary_has_it():
    assert words("Paris paris PARIS") == ["Paris", "paris", "paris"]
    assert words("École ÉCOLE It") == ["École", "école", "it"]
    with pytest.raises(ValueError, match="'Eos' is not in the vocabulary"):
        ARTICLE.encode("Eos")


def test_punctuation_is_cut_off_where_the_vocabulary_has_it():
    assert words("it!") == ["UNK"]  # no "!" in the vocabulary: nothing to cut
    assert words("Don't?") == ["don't", "?"]
    assert words("'it'") == ["'", "it", "'"]
    assert words("(e.g., it...).") == ["(", "e.g.", ",", "it", "...", ")", "."]
    assert words("it.. ?!? it'don't") == ["it", ".", ".", "?!", "?", "it", "'", "don't"]
    assert words("it,xyz,it") == ["it", ",", "UNK", ",", "it"]
    assert words("donit") == ["UNK"]


def test_unknown_words():
    with pytest.raises(ValueError, match=r"'there' is not in the vocabulary \(word 2 .*, at character 7\)"):
        ARTICLE.encode("hello  there")
    with pytest.raises(ValueError, match=r"'you' is not in the vocabulary \(word 1 "):
        ARTICLE.encode("you?")
    assert WordTokenizer(VOCABULARY, unknown="a").encode("hello there?") == [0, 7, 4]
    with pytest.raises(ValueError) as error:
        ARTICLE.encode("x" * 10**6)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("text", [None, 3, b"hello", ["hello"]])
def test_text_must_be_a_string(text):
    with pytest.raises(TypeError, match="text must be a string"):
        ARTICLE.encode(text)


def test_ids_are_checked():
    for wrong in (-1, 10, 2**70):
        with pytest.raises(ValueError, match=rf"within the vocabulary of 10 words, got {wrong} at \[1\]"):
            ARTICLE.decode([0, wrong])
    for wrong in (1.0, "1", None, True, [1], np.float64(1)):
        with pytest.raises(TypeError, match=r"ids must be integers, got .* at \[0\]"):
            ARTICLE.decode([wrong])
    for wrong in (3, None, np.float32(1)):
        with pytest.raises(TypeError, match="ids must be a list of integers, got"):
            ARTICLE.decode(wrong)


@pytest.mark.parametrize("vocabulary, error, message", [
    (["SOS", "EOS", "a", "a"], ValueError, r"distinct, got 'a' at \[2\] and \[3\]"),
    (["SOS", "EOS", ""], ValueError, r"got '' at \[2\]"), (3, TypeError, "must be a list, got int"),
    (["SOS", "EOS", "a b"], ValueError, "without white space"),
    (["SOS", "EOS", "a\u2003"], ValueError, "without white space"),
    (["SOS", "EOS", "x" * 257], ValueError, "1 to 256 characters"),
    (["SOS", "EOS", "\ud800"], ValueError, "valid Unicode"),
    (["SOS", "EOS", 3], TypeError, r"strings, got int at \[2\]"),
    (["SOS", "EOS", b"a"], TypeError, "strings, got bytes"),
    (["SOS", "EOS", None], TypeError, "strings, got NoneType"),
    ("SOS EOS", TypeError, "must be a list, got str"),
    ([], ValueError, "at least one word"),
    (["SOS", "a"], ValueError, "eos must be in the vocabulary, 'EOS' is not"),
    (["EOS", "a"], ValueError, "sos must be in the vocabulary, 'SOS' is not"),
])
def test_vocabularies_that_cannot_be(vocabulary, error, message):
    with pytest.raises(error, match=message):
        WordTokenizer(vocabulary)


def test_special_words_that_cannot_be():
    with pytest.raises(ValueError, match="unknown must be in the vocabulary, 'UNK' is not"):
        WordTokenizer(VOCABULARY, unknown="UNK")
    for fields in ({"sos": None}, {"eos": 5}, {"unknown": 3}):
        with pytest.raises(TypeError, match="must be a word of the vocabulary"):
            WordTokenizer(VOCABULARY, **fields)


def test_other_names_for_the_special_words():
    tokenizer = WordTokenizer(["<s>", "</s>", "<unk>", "a"], sos="<s>", eos="</s>", unknown="<unk>")
    assert tokenizer.encode("a b") == [3, 2]
    assert tokenizer.decode([0, 3, 2, 1]) == "a <unk>"


@pytest.mark.parametrize("tokenizer", [ARTICLE, PROSE])
def test_dict_round_trip(tokenizer):
    fields = json.loads(json.dumps(tokenizer.to_dict()))
    again = WordTokenizer.from_dict(fields)
    assert again.to_dict() == tokenizer.to_dict()
    assert again.vocabulary == tokenizer.vocabulary and again.sos_id == tokenizer.sos_id


@pytest.mark.parametrize("change, error", [
    ({"type": "bpe"}, ValueError), ({"extra": 1}, ValueError), ({"vocabulary": "SOS"}, TypeError),
    ({"vocabulary": {"SOS": 0, "EOS": 1}}, TypeError), ({"sos": None}, TypeError),
    ({"eos": ["EOS"]}, TypeError),
])
def test_from_dict_refuses(change, error):
    with pytest.raises(error):
        WordTokenizer.from_dict({**ARTICLE.to_dict(), **change})
    with pytest.raises(ValueError, match="fields must be"):
        WordTokenizer.from_dict({"type": "word", "vocabulary": VOCABULARY})
    with pytest.raises(TypeError):
        WordTokenizer.from_dict(VOCABULARY)


def test_a_vocabulary_of_marks():
    """A hundred thousand of them, and words that begin with them: each word is cut in little time."""
    marks = [f"{a}{b}{c}{d}" * 4 for a in "!#$%&*+,-." for b in "./:;<=>?@[" for c in "^_{|}~" for d in "!#$%&*+"]
    words = ["!" * 16 * n + f"a{i}" for i in range(300) for n in range(1, 16)]
    start = time.perf_counter()
    tokenizer = WordTokenizer(["SOS", "EOS", "a", *{*marks, "!" * 15, *words, *("!#$" * n for n in range(1, 80))}])
    assert tokenizer.tokens(tokenizer.encode("a" + marks[9] + "a")) == ["a", marks[9], "a"]
    assert time.perf_counter() - start < (60 if WATCHED else 10)


def test_the_longest_mark_is_cut_at_up_to_16_characters():
    tokenizer = WordTokenizer(["SOS", "EOS", "UNK", "a", ".", "..", "-" * 16, "=" * 17], unknown="UNK")
    assert tokenizer.tokens(tokenizer.encode("a...a.a")) == ["a", "..", ".", "a", ".", "a"]
    arrows = WordTokenizer(["SOS", "EOS", "a", "b", "-", "->"])
    assert arrows.tokens(arrows.encode("a->b-a")) == ["a", "->", "b", "-", "a"]
    assert tokenizer.tokens(tokenizer.encode("a" + "-" * 16)) == ["a", "-" * 16]
    assert tokenizer.tokens(tokenizer.encode("=" * 17 + " a" + "=" * 17)) == ["=" * 17, "UNK"]


def test_a_million_repeated_characters_take_linear_time():
    tokenizer = WordTokenizer(["SOS", "EOS", "UNK", "?", "a", "a?a?a?a", "x" * 256], unknown="UNK")
    start = time.perf_counter()
    for unit in ("?", "a", "a?", "a ", "x", "A?", "é"):
        ids = tokenizer.encode(unit * (10**6 // len(unit)))
        assert ids
    assert time.perf_counter() - start < (120 if WATCHED else 20)  # quadratic: hours


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="ab?.'() \nÉß\u3000\x1c", max_size=30))
def test_any_text_is_encoded_and_no_known_word_is_lost(text):
    tokenizer = WordTokenizer(["SOS", "EOS", "UNK", "a", "b", "?", ".", "'", "(", ")"], unknown="UNK")
    found = tokenizer.tokens(tokenizer.encode(text))
    assert [w for w in found if w in "?.'()"] == [c for c in text if c in "?.'()"]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 9), max_size=20))
def test_decoded_ids_encode_to_themselves(ids):
    assert ARTICLE.encode(ARTICLE.decode(ids, skip_special=False)) == ids
