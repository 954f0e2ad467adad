"""`from_torch`: the weights of PyTorch's Transformer modules, by the names of rtfast/weights.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .config import Config

if TYPE_CHECKING:
    from rtfast.typing import Array

_KINDS = "torch.nn.Transformer, TransformerEncoder or TransformerDecoder"


def from_torch(module: Any) -> Any:
    """A model that computes what a PyTorch module does in eval mode, on rtfast's kernels and without PyTorch.

    module: `torch.nn.Transformer`, `TransformerEncoder` or `TransformerDecoder`; norm_first or not, ReLU or GELU, with
    or without biases and final norm, batch_first either way, float32 or float64. Its weights are copied.

    Returns a `StateTransformer`, `StateEncoder` or `StateDecoder` (rtfast/state_transformer.py), to be called with
    arrays as the module is called with tensors. Raises TypeError for another module or type of numbers, and for modules
    inside that may compute something else: of other classes, subclasses of PyTorch's among them, or with hooks;
    ValueError for one whose layers differ in size or have what rtfast lacks.
    """
    import torch

    from .state_transformer import StateTransformer

    nn = torch.nn
    if isinstance(module, nn.Transformer):
        _check_class("module", module, nn.Transformer)
        _check_hooks(module)
        encoder, decoder = from_torch(module.encoder), from_torch(module.decoder)
        if (encoder.d_model, encoder.dtype, encoder.batch_first) != (
                decoder.d_model, decoder.dtype, decoder.batch_first):
            raise ValueError("from_torch: encoder and decoder must have one d_model, dtype and batch_first, got "
                             f"{encoder} and {decoder}")
        return StateTransformer(encoder, decoder)
    if isinstance(module, nn.TransformerEncoder):
        return _stack(module, "encoder", nn)
    if isinstance(module, nn.TransformerDecoder):
        return _stack(module, "decoder", nn)
    raise TypeError(f"from_torch: module must be a {_KINDS}, got {type(module).__name__}")


def _stack(module: Any, side: str, nn: Any) -> Any:
    """The StateEncoder or StateDecoder of a stack of layers."""
    from .state_transformer import MAX_LENGTH, DecoderStack, EncoderStack, StateDecoder, StateEncoder

    is_decoder = side == "decoder"
    _check_class("module", module, nn.TransformerDecoder if is_decoder else nn.TransformerEncoder)
    _check_hooks(module)
    layers = list(module.layers)
    if not layers:
        raise ValueError(f"from_torch: the {side} must have one layer or more, got none")
    for layer in layers:
        _check_class("layers", layer, nn.TransformerDecoderLayer if is_decoder else nn.TransformerEncoderLayer)
    fields = [_fields(layer, nn) for layer in layers]
    for i, found in enumerate(fields):
        if found != fields[0]:
            different = sorted(name for name in found if found[name] != fields[0][name])
            raise ValueError(f"from_torch: all layers must be alike, but layer {i} differs in {', '.join(different)}")
    batch_first = fields[0].pop("batch_first")
    weights: dict[str, Array] = {}
    for i, layer in enumerate(layers):
        _add_layer(weights, f"{side}.layers.{i}", layer, is_decoder)
    if module.norm is not None:
        _check_norm(module.norm, fields[0]["d_model"], nn)
        _add_norm(weights, side, module.norm)
    config = Config(
        None, **fields[0], n_encoder_layers=0 if is_decoder else len(layers),
        n_decoder_layers=len(layers) if is_decoder else 0, positions=None, output_bias=False,
        max_length=MAX_LENGTH, final_norm=module.norm is not None,
        final_norm_eps=None if module.norm is None else module.norm.eps)
    if is_decoder:
        return StateDecoder(DecoderStack(config, weights), batch_first)
    return StateEncoder(EncoderStack(config, weights), batch_first)


def _fields(layer: Any, nn: Any) -> dict[str, Any]:
    """The Config fields of a layer, and batch_first."""
    attention = layer.self_attn
    attentions = (attention, getattr(layer, "multihead_attn", attention))
    for part in attentions:
        _check_class("attention", part, nn.MultiheadAttention)
        _check_class("out_proj", part.out_proj, nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear)
        if not part._qkv_same_embed_dim or part.bias_k is not None or part.add_zero_attn:
            raise ValueError("from_torch: attention with kdim, vdim, add_bias_kv or add_zero_attn is not supported")
        if part.num_heads != attention.num_heads or part.batch_first != attention.batch_first:
            raise ValueError("from_torch: self- and cross-attention must have the same heads and batch_first")
    for name in ("linear1", "linear2"):
        _check_class(name, getattr(layer, name), nn.Linear)
    for name in ("dropout", "dropout1", "dropout2", "dropout3"):
        _check_class(name, getattr(layer, name, None), nn.Dropout, nn.Identity, type(None))
    dtypes = {str(values.dtype).removeprefix("torch.") for values in layer.parameters()}
    if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
        raise TypeError(f"from_torch: the module must be float32 or float64, got {', '.join(sorted(dtypes))}; "
                        "module.float() converts it")
    if any(values.is_meta for values in layer.parameters()):
        raise ValueError("from_torch: the module has no values yet, its parameters are on the device meta")
    norms = [getattr(layer, f"norm{i}") for i in (1, 2, 3) if hasattr(layer, f"norm{i}")]
    for norm in norms:
        _check_norm(norm, attention.embed_dim, nn)
    if len({norm.eps for norm in norms}) > 1:
        raise ValueError("from_torch: the norms of a layer must have one eps")
    # Where only some have a bias, that of the others is zeros.
    biased = any(bias is not None for part in attentions for bias in (part.in_proj_bias, part.out_proj.bias))
    feed_forward_biased = layer.linear1.bias is not None or layer.linear2.bias is not None
    return {
        "d_model": attention.embed_dim, "n_heads": attention.num_heads, "d_ff": layer.linear1.out_features,
        "activation": _activation(layer.activation, nn), "attention_bias": biased,
        "feed_forward_bias": feed_forward_biased, "norm_first": layer.norm_first,
        "layer_norm_eps": norms[0].eps, "dtype": dtypes.pop(), "batch_first": attention.batch_first,
    }


def _check_class(name: str, part: Any, *kinds: Any) -> None:
    """Raise TypeError unless a part is of one of PyTorch's classes itself."""
    from torch.nn.utils.parametrize import is_parametrized

    found: Any = type(part)
    if found not in kinds and found.__name__.startswith("Parametrized") and is_parametrized(part):
        found = found.__base__  # PyTorch's own subclass, which has its parameters computed
    if found not in kinds:
        why = "; a subclass may compute something else" if issubclass(found, kinds) else ""
        of = f"{found.__module__}." if found.__name__ == kinds[0].__name__ else ""
        raise TypeError(f"from_torch: {name} must be torch.nn.{kinds[0].__name__}, got {of}{found.__name__}{why}")


def _check_hooks(module: Any) -> None:
    """Raise TypeError where a module or one inside does something before, after or in place of its forward."""
    for name, part in module.named_modules():
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            what = "a forward of its own" if "forward" in vars(part) else "forward hooks"
            raise TypeError(f"from_torch: hooks are not supported, but {name or 'the module'}, "
                            f"a {type(part).__name__}, has {what}")


def _check_norm(norm: Any, d_model: int, nn: Any) -> None:
    if not isinstance(norm, nn.LayerNorm) or tuple(norm.normalized_shape) != (d_model,):
        raise ValueError(f"from_torch: norms must be torch.nn.LayerNorm({d_model}), got {norm}")
    _check_class("norms", norm, nn.LayerNorm)


def _activation(function: Any, nn: Any) -> str:
    """Our name of a layer's activation."""
    for kind in (nn.ReLU, nn.GELU, nn.SiLU):
        if isinstance(function, kind):
            _check_class("activation", function, kind)
    if function is nn.functional.relu or isinstance(function, nn.ReLU):
        return "relu"
    if function is nn.functional.gelu:
        return "gelu"
    if isinstance(function, nn.GELU):
        return "gelu_tanh" if function.approximate == "tanh" else "gelu"
    if function is nn.functional.silu or isinstance(function, nn.SiLU):
        return "silu"
    raise ValueError(f"from_torch: activation must be ReLU, GELU or SiLU, got {function}")


def _add_layer(weights: dict[str, Array], name: str, layer: Any, decodes: bool) -> None:
    _add_attention(weights, f"{name}.self_attention", layer.self_attn)
    _add_norm(weights, f"{name}.self_attention", layer.norm1)
    if decodes:
        _add_attention(weights, f"{name}.cross_attention", layer.multihead_attn)
        _add_norm(weights, f"{name}.cross_attention", layer.norm2)
    _add_linear(weights, f"{name}.feed_forward.hidden", layer.linear1)
    _add_linear(weights, f"{name}.feed_forward.output", layer.linear2)
    _add_norm(weights, f"{name}.feed_forward", layer.norm3 if decodes else layer.norm2)


def _add_attention(weights: dict[str, Array], name: str, attention: Any) -> None:
    parts = ("query", "key", "value")
    for part, matrix in zip(parts, np.split(_values(attention.in_proj_weight), 3), strict=True):
        weights[f"{name}.{part}.weight"] = matrix.T
    if attention.in_proj_bias is not None:
        for part, vector in zip(parts, np.split(_values(attention.in_proj_bias), 3), strict=True):
            weights[f"{name}.{part}.bias"] = vector
    _add_linear(weights, f"{name}.output", attention.out_proj)


def _add_linear(weights: dict[str, Array], name: str, linear: Any) -> None:
    weights[f"{name}.weight"] = _values(linear.weight).T
    if linear.bias is not None:
        weights[f"{name}.bias"] = _values(linear.bias)


def _add_norm(weights: dict[str, Array], name: str, norm: Any) -> None:
    """gamma and beta; one that the norm does not have is left out: rtfast's own are ones and zeros then."""
    for ours, values in (("gamma", norm.weight), ("beta", norm.bias)):
        if values is not None:
            weights[f"{name}.norm.{ours}"] = _values(values)


def _values(parameter: Any) -> Array:
    array: Array = parameter.detach().cpu().numpy()
    return array
