"""`from_torch`: what PyTorch's own modules compute in eval mode, on every backend."""

import itertools
import threading
import warnings

import numpy as np
import pytest
from cases import assert_same_bits, skip_unless_bits_are_promised

import rtfast

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no modules to compare with")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:The PyTorch API of nested tensors")

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
SIZES = {"d_model": 36, "nhead": 4, "dim_feedforward": 53}
CAUSAL = nn.Transformer.generate_square_subsequent_mask


def shaken(module, dtype="float64"):
    """The module in eval mode, with biases and norms that count."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return (module.double() if dtype == "float64" else module).eval()


def encoder(layers=2, norm=True, **options):
    layer = nn.TransformerEncoderLayer(**{**SIZES, **options})
    last = nn.LayerNorm(layer.linear1.in_features, eps=3e-5) if norm else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.TransformerEncoder(layer, layers, norm=last)


def decoder(layers=2, norm=True, **options):
    layer = nn.TransformerDecoderLayer(**{**SIZES, **options})
    return nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(layer.linear1.in_features) if norm else None)


def states(*shape, dtype="float64", seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


def result(module, *arguments, **options):
    with torch.no_grad():
        return module(*arguments, **options).numpy()


def assert_close(got, expected):
    assert got.dtype == expected.dtype and got.shape == expected.shape
    assert np.abs(got - expected).max() <= TOLERANCE[str(got.dtype)] * np.abs(expected).max()


GRID = [dict(zip(("norm_first", "activation", "bias", "batch_first", "norm"), choice, strict=True)) for choice in
        itertools.product([False, True], ["relu", "gelu"], [True, False], [True, False], [True, False])]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", GRID, ids=range(len(GRID)))
def test_stacks(backend, options, dtype):
    torch.manual_seed(0)
    first, second = shaken(encoder(**options), dtype), shaken(decoder(**options), dtype)
    ours, theirs = rtfast.from_torch(first), rtfast.from_torch(second)
    for source, target in ((1, 1), (7, 33), (33, 7)):
        swap = (lambda x: x) if options["batch_first"] else (lambda x: x.transpose(0, 1).contiguous())
        src, tgt = swap(states(3, source, 36, dtype=dtype)), swap(states(3, target, 36, dtype=dtype, seed=1))
        assert_close(ours(src), result(first, src))
        assert_close(ours(src, is_causal=True), result(first, src, mask=CAUSAL(source, dtype=src.dtype)))
        assert_close(theirs(tgt, src), result(second, tgt, src))
        mask = CAUSAL(target, dtype=src.dtype)
        assert_close(theirs(tgt, src, tgt_mask=mask), result(second, tgt, src, tgt_mask=mask))
        assert_close(theirs.decode(tgt.numpy(), src.numpy(), tgt_is_causal=True),
                     result(second, tgt, src, tgt_mask=mask))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_whole_transformer(backend, batch_first, norm_first):
    module = shaken(nn.Transformer(36, 4, 1, 3, 53, batch_first=batch_first, norm_first=norm_first))
    ours = rtfast.from_torch(module)
    shape = (lambda b, t: (b, t, 36)) if batch_first else (lambda b, t: (t, b, 36))
    src, tgt = states(*shape(2, 9)), states(*shape(2, 5), seed=1)
    mask = CAUSAL(5, dtype=torch.float64)
    assert_close(ours(src, tgt), result(module, src, tgt))
    assert_close(ours(src, tgt, tgt_mask=mask), result(module, src, tgt, tgt_mask=mask))
    assert_close(ours(src, tgt, None, mask.numpy() < 0), result(module, src, tgt, tgt_mask=mask))
    assert_close(ours.encode(src), result(module.encoder, src))
    assert_close(ours.decode(tgt, ours.encode(src), tgt_is_causal=True), result(module, src, tgt, tgt_mask=mask))
    one, two = states(9, 36), states(5, 36, seed=1)
    assert_close(ours(one, two), result(module, one, two))
    assert ours.decoder.d_model == 36 and "StateTransformer(d_model=36" in repr(ours)


def test_different_stacks(backend):
    module = nn.Transformer(
        36, 4, batch_first=True, custom_encoder=encoder(nhead=6, dim_feedforward=11, batch_first=True, norm=False),
        custom_decoder=decoder(3, nhead=3, activation=nn.GELU(approximate="tanh"), batch_first=True))
    module = shaken(module)
    src, tgt = states(2, 4, 36), states(2, 3, 36, seed=1)
    assert_close(rtfast.from_torch(module)(src, tgt), result(module, src, tgt))


def test_padding(backend):
    module = shaken(nn.Transformer(36, 4, 2, 2, 53, batch_first=True))
    ours = rtfast.from_torch(module)
    src, tgt = states(3, 9, 36), states(3, 5, 36, seed=1)
    source_padding = torch.arange(9) >= torch.tensor([[9], [1], [4]])
    target_padding = torch.arange(5) >= torch.tensor([[2], [5], [3]])
    expected = result(module, src, tgt, src_key_padding_mask=source_padding, tgt_key_padding_mask=target_padding,
                      memory_key_padding_mask=source_padding)
    for mask in (source_padding, torch.zeros(3, 9).masked_fill(source_padding, -torch.inf)):
        got = ours(src, tgt, src_key_padding_mask=mask, tgt_key_padding_mask=target_padding)
        for b, length in enumerate((2, 5, 3)):
            assert_close(got[b, :length], expected[b, :length])
            assert not got[b, length:].any()
    assert not ours.encode(src, src_key_padding_mask=source_padding)[1, 1:].any()


def test_bits_do_not_depend_on_company(backend):
    skip_unless_bits_are_promised(backend)
    ours = rtfast.from_torch(shaken(nn.Transformer(36, 4, 2, 2, 53, batch_first=True), "float32"))
    src, tgt = states(70, 9, 36, dtype="float32"), states(70, 5, 36, dtype="float32", seed=1)
    lengths = np.random.default_rng(0).integers(1, 10, 70)
    padding = np.arange(9) >= lengths[:, None]
    together = ours(src, tgt, src_key_padding_mask=padding, tgt_is_causal=True)
    for b in (0, 1, 63, 64, 69):
        assert_same_bits(ours(src[b, :lengths[b]], tgt[b], tgt_is_causal=True), together[b])
        assert_same_bits(ours(src[b, :lengths[b]], tgt[b, :2], tgt_is_causal=True), together[b, :2])


def test_weights_are_copied():
    module = shaken(encoder(batch_first=True))
    ours, src = rtfast.from_torch(module), states(1, 4, 36)
    before = ours(src)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert_same_bits(ours(src), before)


def test_threads_share_one():
    ours = rtfast.from_torch(shaken(nn.Transformer(36, 4, 2, 2, 53, batch_first=True)))
    cases = [(states(2, n, 36, seed=n), states(2, 13 - n, 36, seed=n + 50)) for n in range(1, 13)]
    expected, wrong = [ours(*case) for case in cases], []

    def work():
        for _ in range(10):
            for case, right in zip(cases, expected, strict=True):
                if not np.array_equal(ours(*case), right):
                    wrong.append(case)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# What does not work, and says so

def test_modules_that_are_refused():
    for module in (nn.Linear(3, 3), None, nn.TransformerEncoderLayer(36, 4)):
        with pytest.raises(TypeError, match="module must be a torch.nn.Transformer, TransformerEncoder or Transf"):
            rtfast.from_torch(module)
    with pytest.raises(TypeError, match="float32 or float64, got bfloat16; module.float"):
        rtfast.from_torch(encoder().bfloat16())
    with pytest.raises(ValueError, match="activation must be ReLU, GELU or SiLU"):
        rtfast.from_torch(encoder(activation=torch.tanh))
    with pytest.raises(ValueError, match="on the device meta"):
        rtfast.from_torch(encoder(device="meta", norm=False))
    mixed = encoder()
    mixed.layers[1] = nn.TransformerEncoderLayer(36, 4, 54)
    with pytest.raises(ValueError, match="layer 1 differs in d_ff"):
        rtfast.from_torch(mixed)
    mixed.layers[1] = nn.Linear(3, 3)
    with pytest.raises(TypeError, match="layers must be torch.nn.TransformerEncoderLayer, got Linear"):
        rtfast.from_torch(mixed)
    empty = encoder()
    empty.layers = nn.ModuleList()
    with pytest.raises(ValueError, match="one layer or more"):
        rtfast.from_torch(empty)
    wide = encoder()
    wide.layers[0].self_attn = nn.MultiheadAttention(36, 4, kdim=8)
    with pytest.raises(ValueError, match="kdim"):
        rtfast.from_torch(wide)
    other = encoder()
    other.norm = nn.BatchNorm1d(36)
    with pytest.raises(ValueError, match=r"norms must be torch.nn.LayerNorm\(36\)"):
        rtfast.from_torch(other)


class Doubled(nn.TransformerEncoderLayer):
    def _ff_block(self, x):
        return 2 * super()._ff_block(x)


class Tripled(nn.TransformerEncoder):
    def forward(self, *arguments, **options):
        return 3 * super().forward(*arguments, **options)


class Negated(nn.MultiheadAttention):
    def forward(self, query, key, value, **options):
        return super().forward(query, key, -value, **options)


class Swish(nn.ReLU):
    def forward(self, x):
        return x * torch.sigmoid(x)


class Shifted(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


class Centred(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x) - 1


class Whole(nn.Transformer):
    def forward(self, *arguments, **options):
        return -super().forward(*arguments, **options)


def changed(change):
    module = encoder()
    change(module, module.layers[1])
    return module


@pytest.mark.parametrize("made, got", [
    (lambda: nn.TransformerEncoder(Doubled(36, 4, 53), 2), "TransformerEncoderLayer, got Doubled"),
    (lambda: Tripled(nn.TransformerEncoderLayer(36, 4, 53), 2), "torch.nn.TransformerEncoder, got Tripled"),
    (lambda: Whole(36, 4, 1, 1, 53), "torch.nn.Transformer, got Whole; a subclass may compute something else"),
    (lambda: encoder(activation=Swish()), "activation must be torch.nn.ReLU, got Swish"),
    (lambda: changed(lambda module, layer: setattr(layer, "self_attn", Negated(36, 4))),
     "attention must be torch.nn.MultiheadAttention, got Negated"),
    (lambda: changed(lambda module, layer: setattr(layer, "linear2", Shifted(53, 36))),
     "linear2 must be torch.nn.Linear, got Shifted"),
    (lambda: changed(lambda module, layer: setattr(layer.self_attn, "out_proj", Shifted(36, 36))),
     "out_proj must be torch.nn.Linear, got Shifted"),
    (lambda: changed(lambda module, layer: setattr(layer, "norm1", Centred(36))),
     "norms must be torch.nn.LayerNorm, got Centred"),
    (lambda: changed(lambda module, layer: setattr(module, "norm", Centred(36))),
     "norms must be torch.nn.LayerNorm, got Centred"),
    (lambda: changed(lambda module, layer: setattr(layer, "dropout1", nn.LayerNorm(36))),
     "dropout1 must be torch.nn.Dropout, got LayerNorm$"),
    (lambda: changed(lambda module, layer: setattr(layer, "linear1", nn.Sequential(layer.linear1, nn.LayerNorm(53)))),
     "linear1 must be torch.nn.Linear, got Sequential$"),
    (lambda: changed(lambda module, layer: layer.linear1.register_forward_hook(lambda part, given, out: out * 0)),
     "layers.1.linear1, a Linear, has forward hooks"),
    (lambda: changed(lambda module, layer: module.register_forward_pre_hook(lambda part, given: None)),
     "the module, a TransformerEncoder, has forward hooks"),
    (lambda: changed(lambda module, layer: setattr(layer.norm1, "forward", lambda x: x)),
     "layers.1.norm1, a LayerNorm, has a forward of its own"),
])
def test_what_may_compute_something_else_is_refused(made, got):
    with pytest.raises(TypeError, match=f"^from_torch: .*{got}"):
        rtfast.from_torch(made())


def test_quantized_layers_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.ao.quantization.quantize_dynamic(encoder().eval(), {nn.Linear})
    with pytest.raises(TypeError, match=r"linear1 must be torch.nn.Linear, got torch\..*\.Linear$"):
        rtfast.from_torch(module)


def test_parameters_that_are_computed():
    module = encoder()
    nn.utils.parametrizations.weight_norm(module.layers[0].linear1)
    source = states(3, 5, 36)
    module = shaken(module)
    assert_close(rtfast.from_torch(module)(source), result(module, source))


@pytest.mark.parametrize("without", ["linear1", "linear2", "in_proj", "out_proj"])
def test_biases_that_only_some_have(without):
    module = decoder()
    for layer in module.layers:
        for attention in (layer.self_attn, layer.multihead_attn):
            if without == "in_proj":
                attention.in_proj_bias = None
            if without == "out_proj":
                attention.out_proj.bias = None
        if without.startswith("linear"):
            getattr(layer, without).bias = None
    module = shaken(module)
    target, memory = states(3, 5, 36), states(4, 5, 36, seed=1)
    assert_close(rtfast.from_torch(module)(target, memory), result(module, target, memory))


@pytest.mark.parametrize("arguments, options, kind, match", [
    ((np.zeros((2, 4, 35)),), {}, ValueError, r"src must be \(T, d_model\) or \(B, T, d_model\) with d_model 36, got"),
    ((np.zeros(36),), {}, ValueError, "src must be"), ((np.zeros((2, 4, 36), int),), {}, TypeError, "floating-point"),
    ((np.zeros((2, 0, 36)),), {}, ValueError, "one position or more"), (("text",), {}, TypeError, "floating-point"),
    ((np.zeros((2, 4, 36)), np.zeros((4, 3), bool)), {}, ValueError, r"mask must have shape \(4, 4\)"),
    ((np.zeros((2, 4, 36)), np.eye(4, dtype=bool)), {}, ValueError, "None or the causal mask"),
    ((np.zeros((2, 4, 36)), np.full((4, 4), 0.5)), {}, ValueError, "0 and -inf"),
    ((np.zeros((2, 4, 36)), np.zeros((4, 4), int)), {}, TypeError, "boolean or floating-point"),
    ((np.zeros((2, 4, 36)),), {"src_key_padding_mask": np.zeros((2, 3), bool)}, ValueError, r"shape \(2, 4\)"),
    ((np.zeros((1, 4, 36)),), {"src_key_padding_mask": np.array([[0, 1, 0, 1]], bool)}, ValueError, "holes"),
    ((np.zeros((1, 2, 36)),), {"src_key_padding_mask": np.ones((1, 2), bool)}, ValueError, "nothing of sequence 0")])
def test_bad_arguments(arguments, options, kind, match):
    ours = rtfast.from_torch(encoder(batch_first=True))
    with pytest.raises(kind, match=match):
        ours(*arguments, **options)


def test_batches_that_do_not_fit():
    ours = rtfast.from_torch(decoder(batch_first=True))
    with pytest.raises(ValueError, match="tgt and memory must have one batch size"):
        ours(np.zeros((2, 3, 36)), np.zeros((3, 3, 36)))
    with pytest.raises(ValueError, match="one batch size"):
        ours(np.zeros((1, 3, 36)), np.zeros((3, 36)))
    with pytest.raises(ValueError, match="encoder and decoder must have one d_model"):
        rtfast.from_torch(nn.Transformer(36, 4, custom_encoder=encoder(), custom_decoder=decoder(d_model=40)))
