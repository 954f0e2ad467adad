"""PyTorch's nn.Transformer layers, given the same weights, compute the same: 2e-5 of the largest number."""

import functools

import numpy as np
import pytest
from models import assert_close, random_ids, random_values

import rtfast

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

#: d_model, heads, d_ff, layers, source length, target length
SIZES = {"small": (12, 3, 20, 2, 9, 5), "odd": (15, 3, 31, 1, 7, 13), "one head": (7, 1, 5, 3, 1, 2),
         "one word": (16, 4, 32, 2, 1, 1), "beyond a panel": (72, 2, 130, 1, 70, 66),
         "long": (32, 4, 48, 1, 300, 270), "wide": (128, 8, 512, 6, 40, 30)}
every_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
activations = pytest.mark.parametrize("activation", ["relu", "gelu"])
TOLERANCE = 2e-5


def make(sizes, activation, seed=0, **fields):
    d_model, heads, d_ff, layers, source, target = sizes
    config = rtfast.Config(
        vocab_size=50, d_model=d_model, n_heads=heads, d_ff=d_ff, n_encoder_layers=layers,
        n_decoder_layers=layers, max_length=max(source, target) + 1, activation=activation,
        attention_bias=True, sos_id=1, **fields)
    weights = random_values(config, seed)
    return config, weights, random_ids(config, source), random_ids(config, target, seed=1)


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def attention_state(weights, ours, theirs):
    """Query, key and value in one matrix, (d_out, d_in)."""
    parts = [f"{ours}.{part}" for part in ("query", "key", "value")]
    return {
        f"{theirs}.in_proj_weight": tensor(np.concatenate([weights[f"{part}.weight"].T for part in parts])),
        f"{theirs}.in_proj_bias": tensor(np.concatenate([weights[f"{part}.bias"] for part in parts])),
        f"{theirs}.out_proj.weight": tensor(weights[f"{ours}.output.weight"].T),
        f"{theirs}.out_proj.bias": tensor(weights[f"{ours}.output.bias"])}


def norm_state(weights, ours, theirs):
    return {f"{theirs}.weight": tensor(weights[f"{ours}.norm.gamma"]),
            f"{theirs}.bias": tensor(weights[f"{ours}.norm.beta"])}


def layer_state(weights, ours, theirs, sublayers):
    """PyTorch's names of one layer's weights; sublayers: our name -> theirs."""
    state = {}
    for i, (name, attention) in enumerate(sublayers.items(), 1):
        state |= attention_state(weights, f"{ours}.{name}", f"{theirs}.{attention}")
        state |= norm_state(weights, f"{ours}.{name}", f"{theirs}.norm{i}")
    for name, linear in (("hidden", "linear1"), ("output", "linear2")):
        state[f"{theirs}.{linear}.weight"] = tensor(weights[f"{ours}.feed_forward.{name}.weight"].T)
        state[f"{theirs}.{linear}.bias"] = tensor(weights[f"{ours}.feed_forward.{name}.bias"])
    return state | norm_state(weights, f"{ours}.feed_forward", f"{theirs}.norm{len(sublayers) + 1}")


ENCODER = {"self_attention": "self_attn"}
DECODER = {"self_attention": "self_attn", "cross_attention": "multihead_attn"}


def stack(kind, config, weights):
    """torch.nn.TransformerEncoder or -Decoder with our weights."""
    layer = getattr(torch.nn, f"Transformer{kind}Layer")(
        config.d_model, config.n_heads, config.d_ff, dropout=0.0, activation=config.activation,
        batch_first=True, layer_norm_eps=config.layer_norm_eps)
    if kind == "Encoder":
        module = torch.nn.TransformerEncoder(layer, config.n_encoder_layers, enable_nested_tensor=False)
    else:
        module = torch.nn.TransformerDecoder(layer, config.n_decoder_layers)
    state = {}
    for i in range(config.n_encoder_layers):
        state |= layer_state(weights, f"{kind.lower()}.layers.{i}", f"layers.{i}",
                             ENCODER if kind == "Encoder" else DECODER)
    module.to(getattr(torch, config.dtype)).load_state_dict(state, strict=True)
    return module.eval()


def embed(config, weights, ids):
    """(1, length, d_model), with the positions of section 3.5."""
    position = torch.arange(len(ids), dtype=torch.float64)[:, None]
    column = torch.arange(config.d_model, dtype=torch.float64)
    angle = position / 10000 ** ((column - column % 2) / config.d_model)
    positions = torch.where(column % 2 == 0, angle.sin(), angle.cos())
    x = torch.nn.functional.embedding(tensor(ids), tensor(weights["embedding.weight"]))
    return (x * config.embedding_scale + positions.to(x.dtype))[None]


@torch.no_grad()
def torch_encode(config, weights, source):
    return stack("Encoder", config, weights)(embed(config, weights, source))


@torch.no_grad()
def torch_logits(config, weights, source, target):
    causal = torch.triu(torch.ones(len(target), len(target), dtype=torch.bool), 1)  # True: may not attend
    states = stack("Decoder", config, weights)(
        embed(config, weights, target), torch_encode(config, weights, source), tgt_mask=causal)
    projection = weights["embedding.weight"].T if config.tie_embeddings else weights["output.weight"]
    return (states @ tensor(projection) + tensor(weights["output.bias"]))[0]


@functools.cache
def expected(sizes, activation, **fields):
    """Config, weights and ids, PyTorch's encoder states and logits: the same for every backend."""
    config, weights, source, target = make(sizes, activation, **fields)
    states = torch_encode(config, weights, source)[0].numpy()
    return config, weights, source, target, states, torch_logits(config, weights, source, target).numpy()


@activations
@every_size
def test_encoder_and_decoder(backend, sizes, activation):
    config, weights, source, target, states, logits = expected(sizes, activation)
    model = rtfast.Transformer(config, weights)
    assert_close(model.encode(source), states, "float32", "encode", TOLERANCE)
    assert_close(model.logits(source, target), logits, "float32", "logits", TOLERANCE)


@pytest.mark.parametrize(
    "fields", [{"tie_embeddings": True}, {"embedding_scale": 5.0}, {"layer_norm_eps": 1e-2}])
def test_other_choices(backend, fields):
    config, weights, source, target, states, logits = expected(SIZES["odd"], "relu", **fields)
    model = rtfast.Transformer(config, weights)
    assert_close(model.encode(source), states, "float32", "encode", TOLERANCE)
    assert_close(model.logits(source, target), logits, "float32", "logits", TOLERANCE)


@activations
def test_float64(backend, activation):
    """Where rounding hides nothing: GELU by erf, eps inside the root, 1 / sqrt(d_key)."""
    config, weights, source, target, states, logits = expected(SIZES["small"], activation, dtype="float64")
    model = rtfast.Transformer(config, weights)
    assert_close(model.encode(source), states, "float64", "encode", 1e-12)
    assert_close(model.logits(source, target), logits, "float64", "logits", 1e-12)


def test_greedy_generation(backend):
    config, weights, source, _ = make(SIZES["small"], "relu", seed=2, dtype="float64")
    generated = []
    for _ in range(10):
        logits = torch_logits(config, weights, source, np.array([1, *generated]))
        generated.append(int(logits[-1].argmax()))
    assert len(set(generated)) > 1
    assert rtfast.Transformer(config, weights).generate(source, 10) == generated
