"""Tokenizers' files: tokenizer.json, SentencePiece models, vocabularies, tokenizer_config.json."""

import io
import json
import os

import mutators

from rtfast.subwords import tokenizer_of

from .base import Harness

TEXTS = ("hello world", "", "a </s>, don't\u00e9 \u4f60", "hello " * 40 + "a" * 200)
LINES = ("hello world", "the red house", "my brother reads the book", "two hundred tables", "hello , don't")


def use(tokenizer):
    """What a model does with its tokenizer: a broken one may refuse, by ValueError."""
    n = len(tokenizer)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        tokenizer.encode_target(text)
        tokenizer.decode(ids)
        tokenizer.tokens(ids)
    tokenizer.decode(list(range(min(n, 40))))
    tokenizer.tokens(list(range(min(n, 40))))


def trained(**options):
    """The bytes of a tiny SentencePiece model."""
    import sentencepiece

    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 5), model_writer=file, minloglevel=2, hard_vocab_limit=False,
        **{"vocab_size": 60, "normalization_rule_name": "identity", **options})
    return file.getvalue()


class SentencePieceModel(Harness):
    """spiece.model of T5."""

    name = "sentencepiece"
    allowed = (ValueError,)

    def made(self):
        rules = self.write(b"41\t61\n41 301\tE1\n2019\t27\n", "rules.tsv").encode()
        t5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
        return [trained(), trained(**t5), trained(model_type="bpe", **t5), trained(model_type="char"),
                trained(model_type="word"), trained(byte_fallback=True, vocab_size=320),
                trained(normalization_rule_tsv=rules.decode(), **t5), trained(user_defined_symbols=["<x>", "hello"])]

    def mutate(self, data, random):
        return mutators.of_message(data, random)

    def run(self, data):
        self.write(data, "spiece.model")
        use(tokenizer_of(self.folder, {"model_type": "t5"}))


class TokenizerJson(Harness):
    """tokenizer.json."""

    name = "tokenizer_json"
    allowed = (ValueError,)
    _WORDS = ("BPE", "Unigram", "WordLevel", "WordPiece", "Sequence", "Metaspace", "ByteLevel", "Split", "Regex",
              "Strip", "Prepend", "Replace", "ByteFallback", "Fuse", "TemplateProcessing", "NFKC", "Lowercase",
              "Precompiled", "Digits", "BertNormalizer", "BertProcessing", "RobertaProcessing", "Punctuation",
              "FixedLength", "CTC", "Whitespace", "Isolated", "Removed", "always", "never", "first", "(a+)+$", " {2,}",
              r"\s*[\r\n]+|\s+(?!\S)", r"\w*\w*$", "x*", "(?i:ss)")

    def mutate(self, data, random):
        return mutators.of_json(data, random, self._WORDS)

    def run(self, data):
        self.write(data, "tokenizer.json")
        use(tokenizer_of(self.folder, {"model_type": "bart"}))


class Vocabulary(Harness):
    """vocab.json of Marian."""

    name = "vocabulary"
    allowed = (ValueError,)

    def __init__(self, folder):
        super().__init__(folder)
        model = trained()
        for name in ("source.spm", "target.spm"):
            self.write(model, name)

    def mutate(self, data, random):
        return mutators.of_json(data, random, ("</s>", "<unk>", "<pad>", "\u2581hello"))

    def run(self, data):
        self.write(data, "vocab.json")
        use(tokenizer_of(self.folder, {"model_type": "marian"}))


class TokenizerConfig(Harness):
    """tokenizer_config.json beside the other files of four kinds of tokenizers."""

    name = "tokenizer_config"
    allowed = (ValueError,)
    _WORDS = ("tokenizer_class", "NllbTokenizer", "MBartTokenizerFast", "src_lang", "tgt_lang", "en_XX", "es_XX", "en",
              "es", "extra_ids", "eos_token", "unk_token", "pad_token", "content", "</s>", "<unk>", "hello")

    def __init__(self, folder):
        super().__init__(folder)
        model = trained()
        words = {word: i for i, word in enumerate(("<s>", "<pad>", "</s>", "<unk>", "\u2581hello", "\u2581world"))}
        files = {"marian": ("source.spm", "target.spm"), "m2m_100": ("sentencepiece.bpe.model",),
                 "t5": ("spiece.model",), "mbart": ()}
        for kind, names in files.items():
            os.mkdir(self.path(kind))
            for name in names:
                self.write(model, kind, name)
            self.write(json.dumps(words).encode(), kind, "vocab.json")
        self._kinds = list(files)
        self.write(json.dumps(_languages()).encode(), "mbart", "tokenizer.json")

    def mutate(self, data, random):
        return mutators.of_json(data, random, self._WORDS)

    def run(self, data):
        # Each kind reads every input: none of them reads much of it.
        for kind in self._kinds:
            self.write(data, kind, "tokenizer_config.json")
        for kind in self._kinds:
            use(tokenizer_of(self.path(kind), {"model_type": kind}))


def _languages():
    """A tokenizer.json of whole words with two languages."""
    words = ("<s>", "</s>", "<unk>", "hello", "world")
    added = [{"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, word in enumerate((*words, "en_XX", "es_XX")) if i not in (3, 4)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
            "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": "<unk>"}}
