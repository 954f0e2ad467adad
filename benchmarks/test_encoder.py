"""The base model's encoder (512, 2048, 8 heads, 6 layers) against torch.nn.TransformerEncoder and ONNX Runtime."""

import warnings

import numpy as np
import peers
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


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("length", [16, 128, 512])
def test_base_encoder(measure, threads, length, batch):
    model = rtfast.Transformer.random(rtfast.Config.base(1000, n_decoder_layers=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = network_of(model)
    ids = [np.random.default_rng(i).integers(0, 1000, length) for i in range(batch)]
    position = rtfast.kernels.positional_encoding(length, 512, dtype=np.float32)
    x = np.stack([model.weights["embedding.weight"][some] * np.float32(model.config.embedding_scale) + position
                  for some in ids])
    given = torch.from_numpy(x)

    def torch_encode():
        with torch.inference_mode():
            return network(given)

    others = {"torch": torch_encode}
    if peers.onnxruntime is not None:
        import onnx_encoder
        others |= {name: lambda run=run: run(x) for name, run in onnx_encoder.sessions(model, threads).items()}
    expected = np.stack(model.encode(ids))
    for name, encode in others.items():
        difference = np.abs(np.asarray(encode()) - expected).max()
        assert difference <= 2e-5 * np.abs(expected).max(), (name, difference)
    row = measure("base encoder", f"length {length}, batch {batch}", lambda: model.encode(ids), others,
                  threads=threads, flops=encoder_flops(model.config, length) * batch, length=length, batch=batch)
    times = row["peers"]
    row["ratio_torch"] = times["torch"] / row["seconds"]
    if len(times) > 1:
        row["ratio_onnx"] = min(time for name, time in times.items() if name != "torch") / row["seconds"]


def encoder_flops(config, length):
    """Of the products of one sentence."""
    weights = 4 * config.d_model ** 2 + 2 * config.d_model * config.d_ff
    return config.n_encoder_layers * (2 * length * weights + 4 * length * length * config.d_model)
