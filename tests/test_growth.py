"""Tokenizers' files that make a text very much longer are refused before they do."""

import base64
import json
import struct

import pytest

from rtfast import CheckpointError
from rtfast.subwords import growth, tokenizer_of

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: no tokenizer.json to read")


def read(folder, **parts):
    """The tokenizer of a tokenizer.json of three words."""
    value = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
             "pre_tokenizer": None, "post_processor": None, "decoder": None,
             "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1, "b": 2}, "unk_token": "<unk>"}, **parts}
    (folder / "tokenizer.json").write_text(json.dumps(value), encoding="utf-8")
    return tokenizer_of(str(folder), {"model_type": "t5"})


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def charsmap(text):
    """SentencePiece's table that replaces "a" by a text, and nothing else."""
    index = [0] * 1024
    index[0], index[353], index[512] = 256 << 10, 97 | 1 << 8 | 865 << 10, 1 << 31
    data = struct.pack("<1024I", *index)
    return struct.pack("<I", len(data)) + data + text.encode() + b"\0"


@pytest.mark.parametrize("place", ["normalizer", "decoder"])
@pytest.mark.parametrize("pattern, content, most", [
    ({"String": "a"}, "a" * 10, 2), ({"String": "abcde"}, "a" * 50, 2), ({"String": "ab"}, "b", 40),
    ({"String": ""}, "a", 8), ({"Regex": "a"}, "a" * 10, 2), ({"Regex": "x*"}, "a", 8),
    ({"Regex": "x+"}, "a", 40), ({"Regex": r"\b"}, "a", 8), ({"Regex": "^"}, "a", 8),
    ({"Regex": r"a|(?=a)"}, "a", 8), ({"Regex": "a{0}"}, "a", 8), ({"Regex": " {2,}"}, "\u2581", 40),
    ({"Regex": r"\\bb"}, "a", 40)], ids=repr)
def test_replacements_that_grow(tmp_path, place, pattern, content, most):
    def make(n):
        one, kind = replace(pattern, content), place + "s"
        return read(tmp_path, **{place: {"type": "Sequence", kind: [one, {"type": "Sequence", kind: [one] * (n - 1)}]}})

    tokenizer = make(most)
    assert tokenizer.encode("a b") is not None and len(tokenizer.decode([1, 2])) < 10**6
    if most < 40:
        with pytest.raises(CheckpointError, match="tokenizer.json: its replacements may make a text "):
            make(most + 1)


def test_added_tokens_are_replaced_when_the_file_is_read(tmp_path):
    """Ten thousand million letters, before the file has been read to its end."""
    parts = {"normalizer": {"type": "Sequence", "normalizers": [replace({"String": "a"}, "a" * 100)] * 5},
             "added_tokens": [{"id": 0, "content": "a", "single_word": False, "lstrip": False, "rstrip": False,
                               "normalized": True, "special": False}]}
    with pytest.raises(CheckpointError, match="may make a text 10000000000 times as long, at most 256"):
        read(tmp_path, **parts)
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    for changed, match in ((text.replace("normalizer", "norm\\u0061lizer"), "letters must be written as letters"),
                           (text.replace('"type": "Replace", ', ""), "10000000000 times as long"),
                           (text.replace('"normalizer": ', '"normalizer"\n:'), "10000000000 times as long")):
        (tmp_path / "tokenizer.json").write_text(changed, encoding="utf-8")
        with pytest.raises(CheckpointError, match=match):
            tokenizer_of(str(tmp_path), {"model_type": "t5"})


def test_what_is_put_before_a_text_is_replaced_too(tmp_path):
    def parts(n):
        return {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "a" * n},
                                                                   replace({"String": "a"}, "aa")]}}

    assert len(read(tmp_path, **parts(127)).encode("a")) == 1
    with pytest.raises(CheckpointError, match="258 times as long"):
        read(tmp_path, **parts(128))


def test_templates(tmp_path):
    def sequence(name):
        return {"Sequence": {"id": name, "type_id": 0}}

    def parts(special, text, ids):
        piece = {"SpecialToken": {"id": "a", "type_id": 0}}
        return {"post_processor": {
            "type": "TemplateProcessing", "single": [piece] * special + [sequence("A")] * text,
            "pair": [sequence("A"), sequence("B")],
            "special_tokens": {"a": {"id": "a", "ids": [1] * ids, "tokens": ["a"] * ids}}}}

    assert read(tmp_path, **parts(2, 3, 100)).encode("b") == [1] * 200 + [2] * 3
    with pytest.raises(CheckpointError, match="must add at most 256 ids to a text, got 300"):
        read(tmp_path, **parts(3, 1, 100))
    one = parts(0, 20, 1)["post_processor"]
    with pytest.raises(CheckpointError, match="400 times as long"):
        read(tmp_path, post_processor={"type": "Sequence", "processors": [one, one]})


@pytest.mark.parametrize("n", [1, 18, 256, 257])
def test_tables_of_replacements(tmp_path, n):
    table = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap("b" * n)).decode()}
    if n <= 256:
        assert read(tmp_path, normalizer=table).encode("a") == [2 if n == 1 else 0]
    else:
        with pytest.raises(CheckpointError, match="257 times as long"):
            read(tmp_path, normalizer=table)
    assert growth.longest_replacement(charsmap("b" * n + "\0b")) == n
    assert growth.longest_replacement(charsmap("é" * n)) == n
    assert growth.longest_replacement(b"") == growth.longest_replacement(b"\xff" * 9) == 1


def field(number, value):
    """A field of a protocol buffer: a number, or bytes."""
    return varint(number << 3) + varint(value) if isinstance(value, int) else (
        varint(number << 3 | 2) + varint(len(value)) + value)


def varint(n):
    return (bytes([n & 127 | 128]) + varint(n >> 7)) if n > 127 else bytes([n])


def sentencepiece_model(table, place):
    """A SentencePiece model of a few pieces, with a table of replacements for texts (3) or what is decoded (5)."""
    pieces = ((b"<unk>", 2), (b"</s>", 3), (b"<s>", 3), ("\u2581".encode(), 1), (b"a", 1), (b"b" * 200, 1), (b"b", 1))
    model = b"".join(field(1, field(1, piece) + b"\x15\0\0\x80\xbf" + field(3, kind)) for piece, kind in pieces)
    return model + field(2, field(3, 1)) + field(place, field(1, b"name") + field(2, table))


@pytest.mark.parametrize("place", [3, 5])
@pytest.mark.parametrize("n", [1, 256, 257])
def test_sentencepiece_models(tmp_path, place, n):
    pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: no spiece.model to read")
    path = tmp_path / "spiece.model"
    path.write_bytes(sentencepiece_model(charsmap("b" * n), place))
    if n > 256:
        with pytest.raises(CheckpointError, match="spiece.model: its replacements may make a text 257 times as long"):
            tokenizer_of(str(tmp_path), {"model_type": "t5"})
        return
    tokenizer = tokenizer_of(str(tmp_path), {"model_type": "t5"})
    text = "b" * n if place == 3 else "a"
    assert "".join(tokenizer.tokens(tokenizer.encode("a"))) == f"\u2581{text}</s>"
    assert tokenizer.decode(tokenizer.encode("a")).strip("\u2581") == "b" * n
    # Fields that nobody has are passed over; a file that is cut is refused by one of the two readers.
    data = path.read_bytes()
    numbers = varint(97 << 3 | 1) + b"8" * 8 + varint(96 << 3 | 5) + b"4444"
    path.write_bytes(data + field(99, 2**40) + field(98, b"x") + numbers)
    assert tokenizer_of(str(tmp_path), {"model_type": "t5"}).encode("a") == tokenizer.encode("a")
    for end in (len(data) - 1, len(data) - 300, 5, 1):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointError, match="spiece.model: "):
            tokenizer_of(str(tmp_path), {"model_type": "t5"})


@pytest.mark.parametrize("rest", [b"\xff" * 11, b"\x0b", b"\x0a\xff", b"\x99", b"\x1a\x05\x12\x09ab", b"\x0c"])
def test_broken_messages(rest):
    with pytest.raises(ValueError, match="must be a SentencePiece model"):
        growth.check_sentencepiece(b"\x0a\x01x" + rest)


@pytest.mark.parametrize("name, value", [("max_input_chars_per_word", 257), ("continuing_subword_prefix", "#" * 257)])
def test_wordpiece_is_cubic(tmp_path, name, value):
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
             "max_input_chars_per_word": 256, "vocab": {"[UNK]": 0, "a": 1, "##a": 2}}
    assert read(tmp_path, model=model).encode("aaa") == [1, 2, 2]
    with pytest.raises(CheckpointError, match=f"{name} must be at most 256, got 257"):
        read(tmp_path, model={**model, name: value})


def test_ids_with_gaps(tmp_path):
    tokenizer = read(tmp_path, model={"type": "WordLevel", "vocab": {"<unk>": 0, "a": 7}, "unk_token": "<unk>"})
    assert len(tokenizer) == 8 and tokenizer.encode("a") == [7]
    assert tokenizer.decode([7, 3]) == "a" and tokenizer.tokens([7, 3]) == ["a", ""]
    with pytest.raises(ValueError, match="within the vocabulary of 8 words, got 8"):
        tokenizer.decode([8])
