"""The Transformer's forward pass (section 3.1, figure 1): the encoder's program and the decoder's."""

from . import layers
from .program import SOURCE, TARGET, Program


def encoder_program(config, *, memory):
    """Source ids to encoder states; with `memory` also each decoder layer's cross keys and values."""
    program = Program("encoder")
    x = layers.embedding(program, "encoder", SOURCE, config)
    cache = program.cache("encoder", "encoder", config.n_heads, config.d_key, config.d_value)
    for i in range(config.n_encoder_layers):
        x = layers.encoder_layer(program, f"encoder.layers.{i}", x, cache, config)
    if config.final_norm:
        x = layers.norm(program, "encoder", x, config)
    program.results["states"] = x
    if memory:
        for i in range(config.n_decoder_layers):
            name = f"decoder.layers.{i}.cross_attention"
            layers.cross_memory(program, name, x, _cache(program, name, "cross", config), config)
    return program


def decoder_program(config, *, probabilities=False, choose=False, screen=False):
    """Target ids to the logits of the rows asked for, their softmax and the likeliest of each; with `screen` to the
    likeliest without all logits."""
    program = Program("decoder")
    x = layers.embedding(program, "decoder", TARGET, config)
    for i in range(config.n_decoder_layers):
        name = f"decoder.layers.{i}"
        x = layers.decoder_layer(
            program, name, x, _cache(program, f"{name}.self_attention", "self", config),
            _cache(program, f"{name}.cross_attention", "cross", config), config)
    if config.final_norm:
        x = layers.norm(program, "decoder", x, config)
    program.results["states"] = x
    if screen:
        layers.likeliest_words(program, x, config)
    else:
        layers.next_word(program, x, config, probabilities=probabilities, choose=choose)
    return program


def _cache(program, name, role, config):
    return program.cache(name, role, config.n_heads, config.d_key, config.d_value)
