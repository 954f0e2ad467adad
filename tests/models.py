"""What the tests of whole models share: small configs, weights in which everything counts, comparisons."""

import contextlib

import numpy as np
from plain_transformer import PlainTransformer

import rtfast
from rtfast.model import ENCODER_WITH_MEMORY
from rtfast.weights import weight_shapes
from rtfast.workspace import Capacity, Workspace

#: The builds with a fused multiply-add: they promise each other's bits.
FUSED = ("avx512", "avx2", "neon")

#: float64 to rounding; float32 after a handful of layers. Both relative to the largest number of the result.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}

SOS, EOS = 1, 2
SMALL = {"vocab_size": 13, "d_model": 12, "n_heads": 3, "d_ff": 20, "n_encoder_layers": 2,
         "n_decoder_layers": 2, "max_length": 40, "sos_id": SOS, "eos_id": EOS}
#: Large enough for the team of threads to take part in a sentence of 100 words.
LARGE = {"vocab_size": 301, "d_model": 128, "n_heads": 4, "d_ff": 256, "n_encoder_layers": 2,
         "n_decoder_layers": 2, "max_length": 128, "sos_id": SOS}


def small_config(**fields):
    return rtfast.Config(**{**SMALL, **fields})


def large_config(**fields):
    return rtfast.Config(**{**LARGE, **fields})


def random_values(config, seed=0):
    """{name: array} of random weights; gammas, betas and biases too, so that a forgotten one shows."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in weight_shapes(config).items():
        values = random.standard_normal(shape)
        if name.endswith(".gamma"):
            values = 1 + 0.3 * values
        elif name.endswith((".bias", ".beta")):
            values = 0.3 * values
        elif name != "embedding.weight":
            values = values / np.sqrt(shape[0])
        weights[name] = values.astype(config.dtype)
    return weights


def random_model(config, seed=0):
    """A model, and the plain transformer of the same values."""
    weights = random_values(config, seed)
    return rtfast.Transformer(config, weights), PlainTransformer(config, weights)


def model_with_logits(logits, dtype="float32"):
    """A model whose logits are these, one for each word, whatever it reads."""
    config = small_config(vocab_size=len(logits), dtype=dtype)
    weights = random_values(config)
    weights["output.weight"][...], weights["output.bias"][...] = 0, logits
    return rtfast.Transformer(config, weights)


def random_ids(config, shape, seed=0):
    """Words of the vocabulary but SOS, EOS and 0, which serves as padding."""
    return np.random.default_rng(seed).integers(3, config.vocab_size, shape)


def ragged_ids(config, lengths, seed=0):
    return [random_ids(config, length, seed + i).tolist() for i, length in enumerate(lengths)]


def assert_close(got, expected, dtype, what="", tolerance=None):
    """`got` is of `dtype` and within its tolerance of `expected`, relative to the largest number there."""
    tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
    assert got.dtype == dtype and got.shape == expected.shape, what
    largest = np.abs(expected).max(initial=0)
    error = np.abs(got - expected).max(initial=0)
    assert error <= tolerance * largest, f"{what}: off by {error / largest:.2e} of the largest number"


def assert_greedy(plain, source, generated, limit):
    """`generated` is what the plain transformer generates, to float32: each word is about its likeliest."""
    config = plain.config
    assert generated and len(generated) <= limit and config.eos_id not in generated[:-1]
    assert len(generated) == limit or generated[-1] == config.eos_id
    logits = plain.logits(source, [config.sos_id, *generated[:-1]])
    chosen = logits[np.arange(len(generated)), generated]
    assert (chosen >= logits.max(axis=1) - 1e-4 * np.abs(logits).max()).all()


def ready_to_decode(model, sources, steps):
    """A workspace in which `sources` are encoded, with room for `steps` decode steps.

    The one place where the tests reach behind a model's public methods: no other way shows the logits of
    single steps, or leaves out what generate does between them.
    """
    lengths = [len(source) for source in sources]
    capacity = Capacity(sequences=len(sources), source_rows=sum(lengths), source_length=max(lengths),
                        target_rows=len(sources), target_length=steps)
    workspace = Workspace(model._backend, model._programs, model._packed, capacity)
    workspace.encode(ENCODER_WITH_MEMORY, sources)
    workspace.begin_steps(range(len(sources)))
    return workspace


class FewerWords(rtfast.WordTokenizer):
    """The words 0 to 7, of a model that has more: as those of T5, M2M100 and NLLB have fewer than their models."""

    def __init__(self):
        super().__init__(["w0", "SOS", "EOS", *(f"w{i}" for i in range(3, 8))])

    def encode_target(self, text):
        return [*self.encode(text), EOS]


def model_of_fewer_words():
    """A model of 13 words that says 9, w3, 10, EOS and has a tokenizer of eight words."""
    config = small_config(tie_embeddings=False)
    weights = random_values(config)
    weights["output.bias"][[9, 3, 10, EOS]] = 65, 50, 35, 20
    model = rtfast.Transformer(config, weights, generation={"no_repeat_ngram_size": 1})
    model.tokenizer = FewerWords()
    return model


@contextlib.contextmanager
def threads(n):
    """Run the body on up to n threads."""
    before = rtfast.get_num_threads()
    rtfast.set_num_threads(n)
    try:
        yield
    finally:
        rtfast.set_num_threads(before)
