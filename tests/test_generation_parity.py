"""Greedy and beam search of every family give the ids, and the scores, of transformers' `generate`."""

import functools
import itertools
import json
import warnings

import numpy as np
import pytest

import rtfast

transformers = pytest.importorskip("transformers", reason="transformers is not installed: no ids to compare with")
torch = pytest.importorskip("torch", reason="PyTorch is not installed: no ids to compare with")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SCORE_TOLERANCE = 2e-4
NEW_TOKENS = 12
SEEDS = 5
#: A prime, so that no block of anything is whole.
VOCABULARY = 61


def fairseq(kind, seed, **more):
    """A model whose layers, width and heads vary with the seed; EOS, padding and start as the family has them."""
    config = {"vocab_size": VOCABULARY, "d_model": 24 if seed % 2 else 40, "encoder_layers": 1, "decoder_layers": 1,
              "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 32,
              "decoder_ffn_dim": 32, "max_position_embeddings": 41, "init_std": 0.4, "dropout": 0.0,
              "pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0, "decoder_start_token_id": 2,
              "forced_eos_token_id": None, "scale_embedding": False, **more}
    named = {"marian": ("MarianConfig", "MarianMTModel"), "bart": ("BartConfig", "BartForConditionalGeneration"),
             "mbart": ("MBartConfig", "MBartForConditionalGeneration"),
             "m2m100": ("M2M100Config", "M2M100ForConditionalGeneration")}[kind]
    return getattr(transformers, named[1])(getattr(transformers, named[0])(**config))


def t5(seed, **more):
    return transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=VOCABULARY, d_model=40, d_kv=7, d_ff=32, num_layers=1, num_heads=3, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=1, initializer_factor=2.0, relative_attention_num_buckets=8,
        relative_attention_max_distance=12, dropout_rate=0.0, **more))


FAMILIES = {
    "marian": lambda seed: fairseq("marian", seed, pad_token_id=60, eos_token_id=0, bos_token_id=3,
                                   decoder_start_token_id=60),
    "bart": lambda seed: fairseq("bart", seed),
    "mbart": lambda seed: fairseq("mbart", seed),
    "m2m100": lambda seed: fairseq("m2m100", seed),
    "t5": lambda seed: t5(seed, feed_forward_proj="gated-gelu" if seed % 2 else "relu"),
}


#: What is added to the bias of EOS, or what its embedding is multiplied by where there is no bias; and seeds with
#: which sentences then end at many lengths.
EOS = {"marian": (6.0, [30, 11, 27, 13, 19]), "bart": (4.0, [10, 1, 37, 28, 39]),
       "mbart": (5.0, [10, 36, 37, 18, 29]), "m2m100": (1.3, [5, 31, 12, 8, 24]),
       "t5": (2.0, [10, 16, 32, 38, 34])}


class Pair:
    """A random model in transformers, in float64, and the folder of it that rtfast read."""

    def __init__(self, family, seed, folder):
        boost, seeds = EOS[family]
        torch.manual_seed(seeds[seed])
        model = FAMILIES[family](seed).eval()
        with torch.no_grad():
            if hasattr(model, "final_logits_bias"):
                model.final_logits_bias[0] += torch.randn(VOCABULARY) * 0.5
                model.final_logits_bias[0, model.config.eos_token_id] += boost
            else:
                model.get_input_embeddings().weight[model.config.eos_token_id] *= boost
            if family == "t5":  # the same words, with smaller logits
                model.decoder.final_layer_norm.weight *= 0.2
        model.save_pretrained(folder)
        self.ours, self.theirs, self.config = rtfast.load(folder), model.double(), model.config

    def sources(self, n, seed):
        """n sentences of different lengths that end with EOS."""
        random = np.random.default_rng(seed * 10 + n)
        return [[*random.integers(4, 59, random.integers(2, 9)).tolist(), self.config.eos_token_id] for _ in range(n)]

    def expected(self, rows, asked, prompt=None):
        """The ids after the start, up to EOS, and scores of transformers: of each sentence a list of (ids, score)."""
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.config.pad_token_id] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        if prompt is not None:
            asked = {**asked, "decoder_input_ids": torch.tensor(prompt)}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = self.theirs.generate(input_ids=ids, attention_mask=mask, return_dict_in_generate=True,
                                       output_scores=True, **asked)
        eos = asked.get("eos_token_id", self.config.eos_token_id)
        eos = eos if isinstance(eos, list) else [eos]
        many, given = asked.get("num_return_sequences", 1), 1 if prompt is None else len(prompt[0])
        rows = [cut(row, given, eos) for row in out.sequences.tolist()]
        if asked.get("num_beams", 1) > 1:
            scores = out.sequences_scores.tolist()
        else:
            chosen = self.theirs.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
            scores = [row[:len(rows[i]) - given + 1].sum().item() for i, row in enumerate(chosen)]
        found = list(zip(rows, scores, strict=True))
        return [found[i:i + many] for i in range(0, len(found), many)]

    def found(self, rows, asked, prompt=None):
        out = self.ours.generate(rows, return_dict_in_generate=True, decoder_input_ids=prompt, **asked)
        out = out if asked.get("num_return_sequences", 1) > 1 else [[hypothesis] for hypothesis in out]
        plain = self.ours.generate(rows, decoder_input_ids=prompt, **asked)  # without scores a step does less
        plain = plain if asked.get("num_return_sequences", 1) > 1 else [[ids] for ids in plain]
        assert plain == [[hypothesis.ids for hypothesis in row] for row in out]
        return [[(hypothesis.ids, hypothesis.score) for hypothesis in row] for row in out]


def cut(row, given, eos):
    """The ids after the start, up to an EOS behind the `given` first."""
    for i, token in enumerate(row):
        if i >= given and token in eos:
            return row[1:i + 1]
    return row[1:]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    @functools.cache
    def made(family, seed):
        return Pair(family, seed, tmp_path_factory.mktemp("model") / f"{family}-{seed}")
    return made


def assert_parity(pair, seed, n, asked, prompt=None):
    asked = {"max_new_tokens": NEW_TOKENS, **asked}
    if "max_length" in asked:
        del asked["max_new_tokens"]
    rows = pair.sources(n, seed)
    wanted, found = pair.expected(rows, asked, prompt), pair.found(rows, asked, prompt)
    assert [[ids for ids, _ in row] for row in found] == [[ids for ids, _ in row] for row in wanted]
    np.testing.assert_allclose([score for row in found for _, score in row],
                               [score for row in wanted for _, score in row], atol=SCORE_TOLERANCE, rtol=0)


#: Each is asked of greedy search and of beams, but for what only beams have.
RULES = [
    {}, {"no_repeat_ngram_size": 1}, {"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 3},
    {"repetition_penalty": 1.3}, {"repetition_penalty": 0.8}, {"min_new_tokens": 6}, {"min_length": 5},
    {"max_length": 9}, {"max_new_tokens": 1}, {"max_new_tokens": 2}, {"forced_bos_token_id": 7},
    {"forced_eos_token_id": "eos"}, {"forced_bos_token_id": 7, "forced_eos_token_id": "eos", "max_new_tokens": 4},
    {"bad_words_ids": [[11], [12], [30], [31]]}, {"bad_words_ids": [[12, 14], [30, 31, 32], [40]]},
    {"bad_words_ids": "seen"}, {"suppress_tokens": [5, 6, 20, 33, 50]}, {"eos_token_id": ["eos", 9, 21]},
    {"renormalize_logits": True, "suppress_tokens": [8, 9, 10]},
    {"no_repeat_ngram_size": 2, "repetition_penalty": 1.2, "min_new_tokens": 4, "forced_eos_token_id": "eos",
     "suppress_tokens": [13], "bad_words_ids": [[15], [16, 17]]},
]
BEAMS = [
    {"num_beams": num_beams, "length_penalty": length_penalty, "early_stopping": early_stopping}
    for num_beams, length_penalty, early_stopping in
    itertools.product([2, 4, 5], [0.6, 1.0, 2.0, -0.5], [True, False, "never"])
]


def settle(asked, pair, seed, n):
    """The model's EOS for "eos"; for "seen", words of one, two and three ids that it would say."""
    eos, asked = pair.config.eos_token_id, dict(asked)
    if asked.get("forced_eos_token_id") == "eos":
        asked["forced_eos_token_id"] = eos
    if "eos_token_id" in asked:
        asked["eos_token_id"] = [eos, *asked["eos_token_id"][1:]]
    if asked.get("bad_words_ids") == "seen":
        said = pair.expected(pair.sources(n, seed), {"max_new_tokens": NEW_TOKENS})[0][0][0]
        asked["bad_words_ids"] = [said[:1], said[1:3] or [4, 5], said[2:5] or [4, 5, 6], [eos]]
    return asked


def cases():
    """(seed, sentences, asked): rules with greedy search and with beams, and every choice of beams."""
    number = itertools.count()
    for rule in RULES:
        for search in ({}, {}, {"num_beams": 2}, {"num_beams": 4}, {"num_beams": 5, "num_return_sequences": 3}):
            i = next(number)
            yield i % SEEDS, 1 + i % 5, {**rule, **search}
    for beams in BEAMS:
        for more in ({}, {"num_return_sequences": beams["num_beams"]}, RULES[1 + next(number) % (len(RULES) - 1)]):
            i = next(number)
            yield (i // 5) % SEEDS, 1 + i % 5, {**beams, **more}


CASES = list(cases())


def test_enough_cases():
    assert len(CASES) >= 200


@pytest.mark.parametrize("seed, n, asked", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("family", FAMILIES)
def test_ids_and_scores(pair, family, seed, n, asked):
    made = pair(family, seed)
    assert_parity(made, seed, n, settle(asked, made, seed, n))


@pytest.mark.parametrize("family", FAMILIES)
def test_sentences_end_at_many_lengths(pair, family):
    """Else the cases would test little."""
    lengths = []
    for seed in range(SEEDS):
        for asked in ({}, {"num_beams": 4}):
            made = pair(family, seed)
            found = made.found(made.sources(5, seed), {"max_new_tokens": NEW_TOKENS, **asked})
            lengths += [len(row[0][0]) for row in found]
    assert len(set(lengths)) >= NEW_TOKENS / 3
    assert 0.1 < np.mean(np.array(lengths) < NEW_TOKENS) < 0.98


@pytest.mark.parametrize("asked", [{}, {"num_beams": 3}, {"num_beams": 4, "no_repeat_ngram_size": 2},
                                   {"forced_bos_token_id": 7}, {"min_new_tokens": 5, "num_beams": 2}], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_targets_that_begin_with_given_tokens(pair, family, asked):
    made = pair(family, 1)
    start = made.config.decoder_start_token_id
    assert_parity(made, 1, 3, asked, prompt=[[start, 7, 9], [start, 11, 30], [start, 9, 9]])


@pytest.mark.parametrize("asked", [
    {}, {"num_beams": 4}, {"num_beams": 3, "min_new_tokens": 5}, {"num_beams": 3, "early_stopping": True}], ids=str)
@pytest.mark.parametrize("family", ["bart", "t5"])
def test_every_backend(backend, tmp_path, family, asked):
    for seed in range(3):
        assert_parity(Pair(family, seed, tmp_path / f"{seed}"), seed, 4, asked)


@pytest.mark.parametrize("beams", [20, 33])
def test_many_beams(pair, beams):
    """More candidates than the kernel picks at a time."""
    assert_parity(pair("bart", 0), 0, 2, {"num_beams": beams, "max_new_tokens": 4})


#: Fields of config.json; those of generation_config.json, None where there is none, ... for as it was saved.
FILES = [
    ({"force_bos_token_to_be_generated": True}, None),
    ({"force_bos_token_to_be_generated": True, "bos_token_id": 9, "forced_bos_token_id": 7}, None),
    ({"force_bos_token_to_be_generated": True}, {"decoder_start_token_id": 2, "eos_token_id": 2, "bos_token_id": 0}),
    ({}, {"_from_model_config": True, "force_bos_token_to_be_generated": True, "decoder_start_token_id": 2,
          "eos_token_id": 2, "bos_token_id": 0}),
    ({}, {"decoder_start_token_id": 2, "eos_token_id": None}),
    ({}, {"decoder_start_token_id": 2}),
    ({}, {"bos_token_id": 5, "eos_token_id": 2}),
    ({}, {"bos_token_id": 5, "decoder_start_token_id": None, "eos_token_id": [2, 9]}),
    ({"decoder_start_token_id": None, "bos_token_id": 7}, None),
    ({"eos_token_id": [9, 2]}, None),
    ({"eos_token_id": [9, 2]}, {"decoder_start_token_id": 2, "eos_token_id": 2}),
    ({"eos_token_id": None}, {"decoder_start_token_id": 2, "eos_token_id": 2}),
]


@pytest.mark.parametrize("fields, generation", FILES, ids=range(len(FILES)))
def test_what_files_say(tmp_path, fields, generation):
    """Fields of either file mean what they mean to transformers."""
    for seed in range(3):
        folder = tmp_path / str(seed)
        pair = Pair("bart", seed, folder)
        written = {**json.loads((folder / "config.json").read_text()), **fields}
        (folder / "config.json").write_text(json.dumps(written))
        (folder / "generation_config.json").unlink()
        if generation is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation))
        pair.ours = rtfast.load(folder)
        pair.theirs = transformers.BartForConditionalGeneration.from_pretrained(folder, dtype=torch.float64)
        for asked in ({}, {"num_beams": 3}):
            asked = {"max_new_tokens": NEW_TOKENS, **asked}
            rows, eos = pair.sources(4, seed), pair.theirs.generation_config.eos_token_id
            wanted = pair.expected(rows, {**asked, "eos_token_id": -1 if eos is None else eos})
            assert [[ids for ids, _ in row] for row in pair.found(rows, asked)] == [
                [ids for ids, _ in row] for row in wanted]
