"""A sentence's way through a model, step by step, every number as the engine computed it.

From the words' ids by way of embedding, attention and feed-forward networks to the likeliest next words and the
sentence that came out, with formulas, shapes and the sections of "Attention Is All You Need". Wide matrices show
their first and last columns; layers and heads count from 0, as in the names of model.trace(...).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import rtfast
from rtfast import show
from rtfast.cli import UserError, a_name, blaming_the_user, option, whole_number
from rtfast.shading import PIPE, Ink, room
from rtfast.steps import chosen_steps
from rtfast.translate_command import as_written
from rtfast.walk import Walk
from rtfast.walk_steps import numbered, steps_of
from rtfast.words import reads_ids, text_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from rtfast.model import Transformer
    from rtfast.trace import Trace
    from rtfast.walk_steps import Key, Step

EXAMPLES = """\
examples:
  rtfast explain "the red house"
  rtfast explain "the red house" --list                   the steps and their numbers
  rtfast explain "the red house" --step 4 --layer 1       attention weights of the encoder's second layer
  rtfast explain "the red house" --step 12-16 --head 0    the decoder's own attention, one head
  rtfast explain "the red house" --target "la casa azul" --step 26
  rtfast explain "the red house" --html page.html         the same as a page
  rtfast explain --model FOLDER --ids 17 4 9 2 | less     ids, of a model without a tokenizer"""

#: Words that are generated unless told otherwise: every one is a row of each matrix.
MOST_WORDS = 20
#: Options that say what is printed: a page has no use for them, and a list of the steps neither.
_PRINTED = ("step", "layer", "head", "precision", "top", "width", "no_color")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="+", help="the sentence; with --ids: token ids")
    parser.add_argument("--model", metavar="MODEL", type=a_name,
                        help="a folder, or a name on the hub (default: English-Spanish)")
    parser.add_argument("--ids", action="store_true", help="the text is token ids, and so is --target")
    parser.add_argument("--target", metavar="TEXT", help="what the decoder reads, in place of what it would generate")
    parser.add_argument("--max-new-tokens", type=whole_number(1), metavar="N",
                        help=f"generate N words at most (default {MOST_WORDS})")
    parser.add_argument("--html", metavar="FILE", type=a_name,
                        help="write it as a page to FILE, and nothing else to the terminal (-: to stdout)")
    group = parser.add_argument_group("what to show")
    group.add_argument("--list", action="store_true", help="only the steps' numbers and titles")
    group.add_argument("--step", metavar="LIST", help="steps to show, such as 6 or 5-9 or 1,12-13 (default all)")
    group.add_argument("--layer", type=whole_number(0), metavar="N", help="of the layers only number N")
    group.add_argument("--head", type=whole_number(0), metavar="N", help="of the heads only number N")
    group.add_argument("--top", type=whole_number(1, 64), metavar="N", help="likeliest next words (default 5)")
    group.add_argument("--precision", type=whole_number(1, 15), metavar="N", help="decimals, 1 to 15 (default 3)")
    group.add_argument("--width", type=whole_number(40, 1000), metavar="N",
                       help=f"columns to fill (default: the terminal's, 80 at least; {PIPE} or $COLUMNS into a pipe)")
    group.add_argument("--no-color", action="store_true",
                       help="plain characters, as in a pipe or where NO_COLOR is set")


def run(arguments: argparse.Namespace) -> None:
    """Trace the sentence and print its walk, or write it as a page."""
    check_together(arguments)
    with blaming_the_user():
        model = rtfast.load(arguments.model)
    trace = traced(model, arguments)
    if arguments.html is not None:
        write_html(model, trace, arguments.html)
        return
    steps = steps_of(trace)
    numbers = numbered(steps)
    if arguments.list:
        print("\n".join(listed(steps, numbers)))
        return
    if arguments.head is not None and arguments.head >= model.config.n_heads:
        raise UserError(f"--head must be within 0-{model.config.n_heads - 1}, got {arguments.head}")
    shown = chosen(steps, numbers, arguments)
    page = show.Page(arguments.precision or 3, room(arguments.width), Ink.of_stdout(not arguments.no_color))
    walk = Walk(model, trace, page, text=" ".join(arguments.text), top=arguments.top or 5, head=arguments.head,
                spell=spelling(model, arguments))
    page.heading(headline(model))
    for step in shown:
        walk.show(step, numbers[step.key])


def check_together(arguments: argparse.Namespace) -> None:
    """Raise UserError for options that another one makes void."""
    given = [option(field) for field in _PRINTED if getattr(arguments, field) is not None
             and getattr(arguments, field) is not False]  # 0 is given too
    if arguments.html is not None and (given or arguments.list):
        raise UserError(f"{[*given, '--list'][0]} cannot be given with --html: a page has all of it")
    if arguments.list and given:
        raise UserError(f"{given[0]} cannot be given with --list, which names all steps and shows none")
    if arguments.target is not None and arguments.max_new_tokens is not None:
        raise UserError("--max-new-tokens cannot be given with --target: nothing is generated then")


def traced(model: Transformer, arguments: argparse.Namespace) -> Trace:
    """The trace of the sentence that the arguments give."""
    text = " ".join(arguments.text)
    if not text.strip():
        raise UserError("the text is empty: give a sentence")
    if model.tokenizer is None and not arguments.ids:
        raise UserError("this model has no tokenizer: give token ids, with --ids")
    if arguments.target is not None and not arguments.target.strip() and arguments.ids:
        raise UserError("--target is empty: with --ids it begins with the id that starts a target")
    with blaming_the_user("text"):
        source = ids_in(text) if arguments.ids else list(model.tokenizer.encode(text))
    if len(source) > model.config.max_length:
        raise UserError(f"the text has {len(source)} tokens, but the model reads at most {model.config.max_length}")
    if arguments.target is not None:
        with blaming_the_user("--target"):
            return model.trace(source, ids_in(arguments.target) if arguments.ids else arguments.target)
    most = arguments.max_new_tokens or min(MOST_WORDS, model.config.max_length)
    with blaming_the_user(options={"max_new_tokens": "--max-new-tokens"}):
        return model.trace(source if arguments.ids else text, max_new_tokens=most)


def ids_in(text: str) -> list[int]:
    """The token ids that text spells, such as 17 4 9 2. Raises ValueError for anything else."""
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"--ids takes whole numbers, got {text[:80]!r}") from None


def spelling(model: Transformer, arguments: argparse.Namespace) -> Callable[[list[int]], str]:
    """A function from the ids of a target to the text that is shown for them."""
    if arguments.ids and not reads_ids(model.tokenizer):
        return lambda ids: " ".join(map(str, ids))
    if arguments.model is None and not arguments.ids:
        return lambda ids: as_written(text_of(model.tokenizer, ids), " ".join(arguments.text))
    return lambda ids: text_of(model.tokenizer, ids)


def chosen(steps: list[Step], numbers: dict[Key, int], arguments: argparse.Namespace) -> list[Step]:
    """Those of the steps that the arguments ask for."""
    layers = {step.layer for step in steps if step.layer is not None}
    if arguments.layer is not None and arguments.layer not in layers:
        raise UserError(f"--layer must be within 0-{max(layers, default=-1)}, got {arguments.layer}" if layers
                        else "--layer: this model has no layers")
    wanted = range(len(numbers)) if arguments.step is None else chosen_steps("--step", arguments.step, len(numbers))
    return [step for step in steps if numbers[step.key] - 1 in wanted
            and (arguments.layer is None or step.layer in (None, arguments.layer))]


def listed(steps: list[Step], numbers: dict[Key, int]) -> list[str]:
    """The kinds of steps as lines: number, title, sections."""
    first: dict[Key, Step] = {}
    for step in steps:
        first.setdefault(step.key, step)
    titles = {key: step.title(with_layer=False) for key, step in first.items()}
    width = max(map(len, titles.values()))
    return [f"{numbers[key]:3}. {titles[key]:{width}}  {step.sections}".rstrip() for key, step in first.items()]


def headline(model: Transformer) -> str:
    """What is walked through: the model's sizes."""
    c = model.config
    return (f"An encoder of {c.n_encoder_layers} and a decoder of {c.n_decoder_layers} layers, d_model {c.d_model}, "
            f"n_heads {c.n_heads}, d_ff {c.d_ff}, {c.target_words:,} words    "
            f"(rtfast {rtfast.__version__}, {model.backend} backend, {c.dtype})")


def write_html(model: Transformer, trace: Trace, path: str) -> None:
    """Write the page, and say where; - is stdout."""
    if path == "-":
        from rtfast.page import page_html

        text = page_html(model, trace)
        out = getattr(sys.stdout, "buffer", None)  # the page is UTF-8, whatever stdout is
        if out is None:
            print(text, end="")
        else:
            out.write(text.encode())
        return
    from rtfast.page import write_page

    with blaming_the_user("--html"):
        size = write_page(model, trace, path)
        print(f"{path}: {size:,} bytes")
