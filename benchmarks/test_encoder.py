"""The base model's encoder (512, 2048, 8 heads, 6 layers) against torch.nn.TransformerEncoder."""

import warnings

import numpy as np
import pytest

import rtfast

torch = pytest.importorskip("torch", reason="torch is compared with where it is installed")


def network_of(model):
    """A torch encoder with the model's weights."""
    c = model.config
    layer = torch.nn.TransformerEncoderLayer(c.d_model, c.n_heads, c.d_ff, dropout=0.0, batch_first=True)
    network = torch.nn.TransformerEncoder(layer, c.n_encoder_layers).eval()
    for i, layer in enumerate(network.layers):
        w = {name.removeprefix(f"encoder.layers.{i}."): torch.from_numpy(np.array(values))
             for name, values in model.weights.items() if name.startswith(f"encoder.layers.{i}.")}
        attention, norms = "self_attention", (layer.norm1, layer.norm2)
        layer.self_attn.in_proj_weight.data = torch.cat(
            [w[f"{attention}.{part}.weight"].T for part in ("query", "key", "value")])
        layer.self_attn.in_proj_bias.data.zero_()
        layer.self_attn.out_proj.weight.data = w[f"{attention}.output.weight"].T.contiguous()
        layer.self_attn.out_proj.bias.data.zero_()
        for linear, name in ((layer.linear1, "hidden"), (layer.linear2, "output")):
            linear.weight.data = w[f"feed_forward.{name}.weight"].T.contiguous()
            linear.bias.data = w[f"feed_forward.{name}.bias"]
        for norm, name in zip(norms, ("self_attention", "feed_forward"), strict=True):
            norm.weight.data, norm.bias.data = w[f"{name}.norm.gamma"], w[f"{name}.norm.beta"]
    return network


@pytest.mark.parametrize("length", [16, 128, 512])
def test_base_encoder(measure, threads, length):
    model = rtfast.Transformer.random(rtfast.Config.base(1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = network_of(model)
    ids = np.arange(length)
    x = torch.from_numpy(model.trace(ids, [0])["encoder.input"])[None]

    def encode():
        with torch.inference_mode():
            return network(x)

    expected = encode()[0].numpy()
    assert np.abs(model.encode(ids) - expected).max() <= 2e-5 * np.abs(expected).max()
    measure("base encoder", f"length {length}", lambda: model.encode(ids), {"torch": encode},
            threads=threads, target=1.8 if length == 128 else None, budget=4)
