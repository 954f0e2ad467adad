"""The Transformer's forward pass (section 3.1, figure 1): the encoder's program and the decoder's.

A config without words (vocab_size None) makes programs that read given states and end with states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import layers
from .program import SOURCE, TARGET, Program

if TYPE_CHECKING:
    from rtfast.config import Config
    from rtfast.program import Buffer, Cache


def encoder_program(config: Config, *, memory: bool = False, causal: bool = False) -> Program:
    """The source to encoder states; with `memory` also each decoder layer's cross keys and values.

    causal: no position attends to a later one.
    """
    program = Program("encoder")
    x = _read(program, "encoder", SOURCE, config)
    cache = program.cache("encoder", "encoder", config.n_heads, config.d_key, config.d_value)
    for i in range(config.n_encoder_layers):
        x = layers.encoder_layer(program, f"encoder.layers.{i}", x, cache, config, causal=causal)
    program.results["states"] = x = _final_norm(program, "encoder", x, config)
    if memory:
        _cross_memories(program, x, config)
    return program


def memory_program(config: Config, states: str | None = None) -> Program:
    """Given encoder states to each decoder layer's cross keys and values. states: their name in a trace, if any."""
    program = Program("memory")
    formula, inputs = ("given", ()) if states is None else ("the encoder's states", (states,))
    x = layers.given_states(program, "memory", SOURCE, config.d_model, formula, inputs)
    _cross_memories(program, x, config)
    return program


def decoder_program(config: Config, *, causal: bool = True, probabilities: bool = False, choose: bool = False,
                    screen: bool = False) -> Program:
    """The target to states and, where there are words, the logits of the rows asked for.

    causal: no position attends to a later one. probabilities: the logits' softmax too; choose: the likeliest words;
    screen: these without all logits.
    """
    program = Program("decoder")
    x = _read(program, "decoder", TARGET, config)
    for i in range(config.n_decoder_layers):
        name = f"decoder.layers.{i}"
        x = layers.decoder_layer(
            program, name, x, _cache(program, f"{name}.self_attention", "self", config),
            _cache(program, f"{name}.cross_attention", "cross", config), config, causal=causal)
    program.results["states"] = x = _final_norm(program, "decoder", x, config)
    if screen:
        layers.likeliest_words(program, x, config)
    elif config.vocab_size is not None:
        layers.next_word(program, x, config, probabilities=probabilities, choose=choose)
    return program


def output_program(config: Config) -> Program:
    """Given decoder states to logits: the final norm, where there is one, and the output layer."""
    program = Program("output")
    x = _final_norm(program, "decoder", layers.given_states(program, "output", TARGET, config.d_model), config)
    layers.next_word(program, x, config, probabilities=False, choose=False)
    return program


def decoder_states(config: Config) -> list[str]:
    """Names of what the decoder's layers read and of what each of them gives, in order."""
    names = [item.name for item in decoder_program(config).traced if item.op.kind != "gather"]
    inside = [name for name in names if name.startswith("decoder.layers.")]
    first = names.index(inside[0]) if inside else len(names)
    read = [name for name in names[:first] if name.startswith("decoder.") and not name.startswith("decoder.norm")]
    last = {name.split(".")[2]: name for name in inside}  # of each layer the last one
    return [read[-1], *last.values()]


def _read(program: Program, side: str, dimension: str, config: Config) -> Buffer:
    if config.vocab_size is None:
        return layers.given_states(program, side, dimension, config.d_model)
    return layers.embedding(program, side, dimension, config)


def _final_norm(program: Program, side: str, x: Buffer, config: Config) -> Buffer:
    return layers.norm(program, side, x, config, config.final_norm_eps) if config.final_norm else x


def _cross_memories(program: Program, states: Buffer, config: Config) -> None:
    for i in range(config.n_decoder_layers):
        name = f"decoder.layers.{i}.cross_attention"
        layers.cross_memory(program, name, states, _cache(program, name, "cross", config), config)


def _cache(program: Program, name: str, role: str, config: Config) -> Cache:
    return program.cache(name, role, config.n_heads, config.d_key, config.d_value)
