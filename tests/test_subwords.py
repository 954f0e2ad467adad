"""The tokenizers of checkpoints: the ids and the text of transformers', on files made here."""

import dataclasses
import json
import os
import pathlib
import shutil
import sys
import threading

import numpy as np
import pytest
from models import random_values, small_config

import rtfast
from rtfast import CheckpointError
from rtfast.subwords import tokenizer_of
from rtfast.words import spelled, text_of

sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: no models of it to read")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: no tokenizer.json to read")

TEXTS = [
    "hello world", "the red house", "", " ", "  two  spaces ", "a", "Ünïcödé café", "¿ la casa roja ?", "1,234.5 %",
    "new\nline\ttab", "emoji \U0001f600 and \u4f60\u597d", "</s> in the text", "<pad> <unk> <s>", "x" * 500,
    "don't can't won't", "\u0000 control \u0007", "ﬁ ligature", "ÀÉÎÕÜ", "a\u0301 combined",
]
PLAIN = ["hello world", "the red house is big", "my brother reads the book", "two hundred tables"]


def sentences(n=3000):
    words = rtfast.load().tokenizer.vocabulary[3:] + ("don't", "Ünïcödé", "WORLD", "1,234")
    random = np.random.default_rng(0)
    return [" ".join(random.choice(words, random.integers(2, 12))) for _ in range(n)]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A folder with a SentencePiece model of 200 pieces, for T5 (with its ids) and for the others."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text.txt").write_text("\n".join(sentences()), encoding="utf-8")
    common = dict(input=str(folder / "text.txt"), vocab_size=200, minloglevel=2, character_coverage=0.9995)
    sentencepiece.SentencePieceTrainer.train(model_prefix=str(folder / "plain"), **common)
    sentencepiece.SentencePieceTrainer.train(model_prefix=str(folder / "t5"), pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                                             **common)
    return folder


def pieces_of(path):
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(i) for i in range(len(model))]


def write(folder, name, value):
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def marian(pieces, tmp_path):
    for name in ("source.spm", "target.spm"):
        shutil.copy(pieces / "plain.model", tmp_path / name)
    words = ["</s>", "<unk>", *(piece for piece in pieces_of(pieces / "plain.model") if piece not in (
        "<s>", "</s>", "<unk>")), ">>fra<<", "<pad>"]
    write(tmp_path, "vocab.json", {word: i for i, word in enumerate(words)})
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "MarianTokenizer", "source_lang": "en",
                                              "target_lang": "es"})
    return tmp_path


@pytest.fixture
def m2m100(pieces, tmp_path):
    shutil.copy(pieces / "plain.model", tmp_path / "sentencepiece.bpe.model")
    words = ["<s>", "<pad>", "</s>", "<unk>", *(piece for piece in pieces_of(pieces / "plain.model") if piece not in (
        "<s>", "</s>", "<unk>"))]
    write(tmp_path, "vocab.json", {word: i for i, word in enumerate(words)})
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "M2M100Tokenizer"})
    return tmp_path


def byte_pairs(folder, added=(), processor=None, **config):
    """A tokenizer.json of byte pairs in `folder`."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>", "<unk>", *added], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(sentences(500), trainer)
    if processor:
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single=processor, special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder, "tokenizer_config.json", config)
    return tokenizer


def of(folder, model_type):
    return tokenizer_of(str(folder), {"model_type": model_type})


#: It advises to install a package that changes no id here.
quiet = pytest.mark.filterwarnings("ignore:Recommended")


def ordinary(texts):
    """Texts without the names of special tokens, which transformers takes for these wherever they come: to us they
    are text."""
    return [text for text in texts if not {"<", ">"} & set(text)]


def transformers_class(name):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: nothing to compare with")
    return getattr(transformers, name)


# Against transformers

@quiet
def test_marian(marian):
    ours, theirs = of(marian, "marian"), transformers_class("MarianTokenizer").from_pretrained(str(marian))
    for text in [*ordinary(TEXTS), ">>fra<< hello world"]:
        ids = ours.encode(text)
        assert ids == theirs(text).input_ids, text
        assert ours.encode_target(text) == theirs(text_target=text).input_ids, text
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True), text
    assert len(ours) == len(theirs) and ours.tokens([0, 1, 5]) == theirs.convert_ids_to_tokens([0, 1, 5])


def test_m2m100(m2m100):
    ours, theirs = of(m2m100, "m2m_100"), transformers_class("M2M100Tokenizer").from_pretrained(
        str(m2m100), src_lang="en", tgt_lang="es")
    ours = ours.for_languages("en", "es")
    for text in ordinary(TEXTS):
        ids = ours.encode(text)
        assert ids == theirs(text).input_ids, text
        assert ours.encode_target(text) == theirs(text_target=text).input_ids, text
        if all(0 <= i < len(theirs) for i in ids):
            assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True).strip(), text
    assert ours.target_options == {"forced_bos_token_id": theirs.get_lang_id("es")}
    assert len(ours.languages) == 100 and "zu" in ours.languages


def test_t5_without_tokenizer_json(pieces, tmp_path):
    shutil.copy(pieces / "t5.model", tmp_path / "spiece.model")
    model = sentencepiece.SentencePieceProcessor(model_file=str(pieces / "t5.model"))
    ours = of(tmp_path, "t5")
    for text in TEXTS:
        assert ours.encode(text) == [*model.encode(text), 1]
        assert ours.decode([0, *ours.encode(text)]) == model.decode(
            [i for i in model.encode(text) if i != model.unk_id()])
    assert len(ours) == 300 and ours.tokens([299, 200]) == ["<extra_id_0>", "<extra_id_99>"]
    assert ours.decode([250, *ours.encode("hello world")]) == "hello world"


@pytest.mark.parametrize("model_type", ["bart", "t5"])
def test_tokenizer_json(tmp_path, model_type):
    tokenizer = byte_pairs(tmp_path, processor="<s> $A </s>")
    ours = of(tmp_path, model_type)
    for text in TEXTS:
        ids = ours.encode(text)
        assert ids == tokenizer.encode(text).ids and ours.encode_target(text) == ids
        assert ours.decode(ids) == tokenizer.decode(ids)
        if not {"<", ">"} & set(text):
            assert ours.decode(ids) == text  # bytes lose nothing
    theirs = transformers_class("PreTrainedTokenizerFast")(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        assert ours.encode(text) == theirs(text).input_ids


@pytest.mark.parametrize("kind, codes, source, target, options", [
    ("NllbTokenizer", ["eng_Latn", "spa_Latn"], ["eng_Latn", "*", "</s>"], ["spa_Latn", "*", "</s>"],
     "forced_bos_token_id"),
    ("MBart50TokenizerFast", ["en_XX", "es_XX"], ["en_XX", "*", "</s>"], ["es_XX", "*", "</s>"],
     "forced_bos_token_id"),
    ("MBartTokenizer", ["en_XX", "es_XX"], ["*", "</s>", "en_XX"], ["*", "</s>", "es_XX"],
     "decoder_start_token_id")])
def test_languages_of_tokenizer_json(tmp_path, kind, codes, source, target, options):
    tokenizer = byte_pairs(tmp_path, codes, tokenizer_class=kind, src_lang=codes[0])
    ours = of(tmp_path, "m2m_100" if kind == "NllbTokenizer" else "mbart")
    assert ours.languages == tuple(codes) and ours.target_options == {}
    pair = ours.for_languages(tgt_lang=codes[1])
    plain = tokenizer.encode("hello world").ids
    for found, form in ((pair.encode("hello world"), source), (pair.encode_target("hello world"), target)):
        at = form.index("*")
        expected = [*map(tokenizer.token_to_id, form[:at]), *plain, *map(tokenizer.token_to_id, form[at + 1:])]
        assert found == expected and pair.decode(found) == "hello world"
    assert pair.target_options == {options: tokenizer.token_to_id(codes[1])}
    with pytest.raises(ValueError, match=f"^src_lang: no language 'xx'; there are 2: {codes[0]}, {codes[1]}$"):
        ours.for_languages("xx", codes[1])
    with pytest.raises(ValueError, match="^tgt_lang: no language ''"):
        ours.for_languages(codes[0], "")


# What holds for all

def every(pieces, tmp_path):
    """One tokenizer of each kind."""
    shutil.copy(pieces / "t5.model", tmp_path / "spiece.model")
    t5 = of(tmp_path, "t5")
    byte_pairs(tmp_path, processor="$A </s>")
    return [t5, of(tmp_path, "bart")]


def test_round_trips(pieces, marian, tmp_path_factory):
    for tokenizer in [of(marian, "marian"), *every(pieces, tmp_path_factory.mktemp("more"))]:
        for text in PLAIN:
            assert tokenizer.decode(tokenizer.encode_target(text)) == text


def test_bad_ids_and_text(pieces, marian, tmp_path_factory):
    for tokenizer in [of(marian, "marian"), *every(pieces, tmp_path_factory.mktemp("more"))]:
        for bad in (-1, len(tokenizer), 2**40):
            with pytest.raises(ValueError, match="ids must be within the vocabulary"):
                tokenizer.decode([1, bad])
        for bad in (1.5, "1", True, None):
            with pytest.raises(TypeError, match=r"ids must be integers, got .* at \[1\]"):
                tokenizer.tokens([1, bad])
        with pytest.raises(TypeError, match="ids must be a list of integers, got int"):
            tokenizer.decode(1)
        for bad in (None, 5, b"bytes", ["a"]):
            with pytest.raises(TypeError, match="text must be a string"):
                tokenizer.encode(bad)
        with pytest.raises(ValueError, match="one pair of languages"):
            tokenizer.for_languages("en", "es")


def test_threads_share_one(marian):
    tokenizer, expected, wrong = of(marian, "marian"), {}, []
    for text in TEXTS:
        expected[text] = tokenizer.encode(text)

    def work():
        for _ in range(20):
            for text in TEXTS:
                ids = tokenizer.encode(text)
                if ids != expected[text] or tokenizer.decode(ids) != tokenizer.decode(expected[text]):
                    wrong.append(text)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("name, content, match", [
    ("vocab.json", b"{", "vocab.json: tokenizer must be JSON"), ("vocab.json", b"[1]", "must be a JSON object"),
    ("vocab.json", b'{"</s>": 0, "<unk>": 5}', "one of the ids from 0 to 1"),
    ("vocab.json", b'{"a": 0}', "has no word '</s>'"), ("source.spm", b"no model", "source.spm: "),
    ("vocab.json", b"\xff\xfe", "vocab.json: tokenizer must be UTF-8")])
def test_damaged_files(marian, name, content, match):
    (marian / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        of(marian, "marian")


@pytest.mark.parametrize("name, fields, match", [
    ("marian", {"eos_token": ["</s>"]}, r"vocab.json: has no word \['</s>'\]"),
    ("marian", {"unk_token": {"content": {}}}, "vocab.json: has no word {}"),
    ("marian", {"pad_token": 3}, "tokenizer_config.json: pad_token must be a word, got 3"),
    ("t5", {"extra_ids": 10**19}, "tokenizer_config.json: extra_ids must be an integer within 0..1048576"),
    ("t5", {"extra_ids": "many"}, "tokenizer_config.json: extra_ids must be an integer")])
def test_damaged_tokenizer_configs(marian, pieces, name, fields, match):
    shutil.copy(pieces / "t5.model", marian / "spiece.model")
    write(marian, "tokenizer_config.json", fields)
    with pytest.raises(CheckpointError, match=match):
        of(marian, name)


@pytest.mark.parametrize("code", [["en"], {}, 3, None, "english"])
def test_languages_that_are_none(m2m100, code):
    write(m2m100, "tokenizer_config.json", {"src_lang": code, "tgt_lang": "en"})
    tokenizer = of(m2m100, "m2m_100")
    assert "__en__" not in tokenizer.tokens(tokenizer.encode("hello"))
    assert "__en__" in tokenizer.tokens(tokenizer.encode_target("hello"))


@pytest.mark.parametrize("content", [b"", b"{}", b"nonsense", b'{"version": "1.0", "model": {"type": "Run"}}', b"\xff"])
def test_a_damaged_tokenizer_json(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="tokenizer.json: "):
        of(tmp_path, "bart")


def test_a_file_that_is_too_large(marian, monkeypatch):
    monkeypatch.setattr("rtfast.subwords.files.MAX_FILE", 100)
    with pytest.raises(CheckpointError, match="must be at most 100 bytes"):
        of(marian, "marian")


def test_without_the_package(marian, monkeypatch):
    """The model still loads and works on ids; text says what to install."""
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    tokenizer = of(marian, "marian")
    for method in (tokenizer.encode, tokenizer.encode_target, tokenizer.decode):
        with pytest.raises(ImportError, match=r"needs the package 'sentencepiece': pip install 'rtfast\[text\]'"):
            method("hello")


def test_no_files(tmp_path):
    assert of(tmp_path, "marian") is None


def model_with(folder, tokenizer, **fields):
    config = small_config(vocab_size=len(tokenizer), eos_id=0, sos_id=len(tokenizer) - 1, **fields)
    return rtfast.Transformer(config, random_values(config), tokenizer)


def test_a_model_translates_and_is_saved_with_its_tokenizer(marian, tmp_path_factory):
    model = model_with(marian, of(marian, "marian"))
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    again = rtfast.load(folder)
    assert again.translate(PLAIN, 5) == model.translate(PLAIN, 5)
    assert again.generate("hello world", 5) == model.generate(model.tokenizer.encode("hello world"), 5)
    assert again.score("hello world", "la casa") == pytest.approx(
        float(model.score(model.tokenizer.encode("hello world"), model.tokenizer.encode_target("la casa"))))
    prefixed = again.translate("hello world", 8, target_prefix="la casa")
    assert prefixed.startswith("la casa")
    again.save(folder)  # onto itself
    assert rtfast.load(folder).tokenizer.encode("hello world") == model.tokenizer.encode("hello world")


def test_a_tokenizer_s_file_is_whole_or_as_it_was(marian, tmp_path_factory, monkeypatch):
    model, folder = model_with(marian, of(marian, "marian")), tmp_path_factory.mktemp("saved")
    model.save(folder)
    (folder / "source.spm").write_bytes(b"as it was")
    before = sorted(os.listdir(folder))

    def fail(source, target):
        target.write(source.read(10))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="No space left"):
        model.save(folder)
    assert (folder / "source.spm").read_bytes() == b"as it was" and sorted(os.listdir(folder)) == before


def test_words_of_each_side(marian):
    """Two vocabularies, the target's the larger one: all its words are in texts, and each side is shown in its own."""
    vocabulary = json.loads((marian / "vocab.json").read_text(encoding="utf-8"))
    own = [*list(vocabulary)[:2], *(f"extra{i}" for i in range(7)), *list(vocabulary)[2:]]
    write(marian, "target_vocab.json", {word: i for i, word in enumerate(own)})
    tokenizer = of(marian, "marian")
    assert len(tokenizer) == len(own) and len(tokenizer.source_words) == len(vocabulary)
    config = small_config(vocab_size=len(vocabulary), target_vocab_size=len(own), eos_id=0, sos_id=len(own) - 1)
    model = rtfast.Transformer(config, random_values(config), tokenizer)
    source, target = tokenizer.encode("hello world"), [len(own) - 1, *tokenizer.encode_target("la casa")]
    trace = model.trace(source, target)
    assert trace.tokens[0] == [list(vocabulary)[i] for i in source] != [own[i] for i in source]
    assert trace.tokens[1] == [own[i] for i in target]
    last = len(vocabulary) + 2  # no word of the source
    assert spelled(tokenizer, [last]) == [own[last]]
    assert spelled(tokenizer, [last], source=True) == [f"<{last}>"]
    assert text_of(tokenizer, [last, 0]) == own[last].replace("▁", "")


def test_a_model_of_several_languages(m2m100):
    tokenizer = of(m2m100, "m2m_100")
    model = model_with(m2m100, tokenizer)
    there = model.for_languages("en", "es")
    ids = there.generate("hello world", 5)
    assert ids[0] == tokenizer.for_languages(tgt_lang="es").target_options["forced_bos_token_id"]
    assert model.translate("hello world", 5, src_lang="en", tgt_lang="es") == there.translate("hello world", 5)
    assert model.tokenizer is tokenizer  # as it was
    with pytest.raises(ValueError, match="no language 'english'"):
        model.translate("hello", src_lang="english")
    plain = rtfast.Transformer(dataclasses.replace(model.config), model.weights)
    with pytest.raises(ValueError, match="tokenizer has no languages|no tokenizer"):
        plain.for_languages("en", "es")


@quiet
def test_a_whole_folder(marian):
    """As transformers saves it: model, generation options and tokenizer."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: no folder to read")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no model to save")
    tokenizer = of(marian, "marian")
    torch.manual_seed(0)
    model = transformers.MarianMTModel(transformers.MarianConfig(
        vocab_size=len(tokenizer), d_model=24, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=40, init_std=0.4,
        pad_token_id=len(tokenizer) - 1, eos_token_id=0, decoder_start_token_id=len(tokenizer) - 1)).eval()
    model.save_pretrained(marian)
    theirs = transformers.MarianTokenizer.from_pretrained(str(marian))
    ours = rtfast.load(pathlib.Path(marian))
    for text in PLAIN:
        ids = model.generate(**theirs(text, return_tensors="pt"), max_new_tokens=10, num_beams=4)
        assert ours.translate(text, 10, num_beams=4) == theirs.decode(ids[0], skip_special_tokens=True)
    assert os.path.exists(marian / "source.spm")
