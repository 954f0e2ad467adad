"""Translation of text, or of each line of stdin, with the model that comes with rtfast or another.

The model that comes along turns English into Spanish, within a small grammar (docs/shipped_model.md): a word
that it does not know is an error. Empty lines stay empty.
"""

import rtfast
from rtfast.cli import UserError, blaming_the_user, whole_number
from rtfast.generate_command import lines_of_stdin

EXAMPLES = """\
examples:
  rtfast translate "Hello world"
  rtfast translate "the red house" "we will dance tomorrow"
  rtfast translate < in.txt > out.txt
  rtfast translate --model FOLDER "a sentence of that model's language\""""

#: Lines of stdin that are translated at a time, where no person is waiting for each.
LINES = 64


def add_arguments(parser):
    parser.add_argument("text", nargs="*", help="sentences, a translation each; without any: lines of stdin")
    parser.add_argument("--model", metavar="FOLDER", help="a model with a tokenizer (default: English-Spanish)")
    parser.add_argument("--max-new-tokens", type=whole_number(1), metavar="N",
                        help="stop after N words (default: as many as the model has positions)")


def run(arguments):
    """Load the model, then translate the sentences or every line of stdin."""
    with blaming_the_user():
        model = rtfast.load(arguments.model)
    if model.tokenizer is None:
        raise UserError(f"{arguments.model}: this model has no tokenizer; rtfast generate --ids takes ids")
    for number, sentence in enumerate(arguments.text, start=1):
        print(translated(model, [sentence], [f"text {number}"] if len(arguments.text) > 1 else [""], arguments)[0])
    if not arguments.text:
        for numbers, lines in _batches(lines_of_stdin()):
            where = [f"line {number}" for number in numbers]
            print("\n".join(translated(model, lines, where, arguments)), flush=True)


def translated(model, sentences, where, arguments):
    """The translations of sentences, those without words empty; where: begins the message of an error in each."""
    ids = []
    for sentence, place in zip(sentences, where, strict=True):
        with blaming_the_user(place):
            ids.append(model.tokenizer.encode(sentence))
            if len(ids[-1]) > model.config.max_length:
                raise UserError(f"{place + ': ' if place else ''}{len(ids[-1])} words, but the model reads at most "
                                f"{model.config.max_length}")
    full = [i for i, words in enumerate(ids) if words]
    out = [""] * len(sentences)
    if full:
        with blaming_the_user("--max-new-tokens"):
            generated = model.generate([ids[i] for i in full], arguments.max_new_tokens)
        for i, words in zip(full, generated, strict=True):
            out[i] = as_written(model.tokenizer.decode(words), sentences[i])
    return out


def as_written(translation, text):
    """The translation with a capital letter where the text begins with one: the words are all lower case."""
    first = next((letter for letter in text if letter.isalpha()), "")
    for i, letter in enumerate(translation):
        if letter.isalpha():
            return translation[:i] + letter.upper() + translation[i + 1:] if first.isupper() else translation
    return translation


def _batches(lines):
    """(numbers, lines) of so many at a time that nobody waits: one by one first, then LINES."""
    numbers, held, size = [], [], 1
    for number, line in enumerate(lines, start=1):
        numbers.append(number)
        held.append(line.rstrip("\n"))
        if len(held) == size:
            yield numbers, held
            numbers, held, size = [], [], LINES
    if held:
        yield numbers, held
