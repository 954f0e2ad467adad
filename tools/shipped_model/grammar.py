"""The shipped model's language: pairs of English sentences and their one Spanish translation.

    python grammar.py --seed 0 --count 30        prints examples

What decides a translation is written down here and nowhere else: you is tú, they is ellos, his is su, that is ese,
subject pronouns are kept, adjectives follow their noun, a question keeps the order of the statement, and was is the
imperfect (era, estaba) while other verbs have the preterite.
"""

import argparse
import random
import zlib

import lexicon as lex
import number_words as numbers

#: One sentence in so many is held out of training.
HELD_OUT = 10


def pair(draw, kind=None):
    """(English, Spanish) of one sentence, words separated by spaces. draw: a random.Random."""
    kind = kind or draw.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
    english, spanish = KINDS[kind][0](draw)
    if not english.endswith("?") and draw.random() < 0.3:  # as people type it
        mark = "." if draw.random() < 0.8 else "!"
        return f"{english} {mark}", (f"{spanish} ." if mark == "." else f"¡ {spanish} !")
    return english, spanish


def is_held_out(english):
    """Whether a sentence must not be learnt: by its words alone, whatever mark ends it."""
    words = english.removesuffix(" .").removesuffix(" !")
    return zlib.crc32(words.encode()) % HELD_OUT == 0 and words not in _LEARNT


# Noun phrases -----------------------------------------------------------------------------------

def noun_phrase(draw, nouns, definite=False):
    """(English, Spanish, feminine, plural) of "the red houses", "two hundred cars"."""
    noun = draw.choice(nouns)
    adjective = draw.choice(lex.ADJECTIVES) if draw.random() < 0.45 else None
    if not definite and draw.random() < 0.15:
        n = draw.randrange(2, 20) if draw.random() < 0.5 else draw.randrange(20, 1000)
        plural, words, palabras = True, numbers.english(n), numbers.spanish(n, noun.feminine)
    else:
        plural = draw.random() < 0.4
        choices = [d for d in lex.DETERMINERS if not definite or d[0] != "a"]
        singular, several, forms = draw.choice(choices)
        words, palabras = several if plural else singular, forms[2 * plural + noun.feminine]
    english, spanish = noun.english[plural], noun.spanish[plural]
    if adjective:
        english = f"{adjective[0]} {english}"
        spanish = f"{spanish} {lex.agree(adjective[1], noun.feminine, plural)}"
    if words == "a" and english[0] in "aeiou":
        words = "an"
    return f"{words} {english}", f"{palabras} {spanish}", noun.feminine, plural


def subject(draw, nouns=None):
    """(English, Spanish, person, feminine, plural)."""
    choice = draw.random()
    if nouns is None and choice < 0.4:
        return draw.choice(lex.PRONOUNS)
    if nouns is None and choice < 0.55:
        name = draw.choice(list(lex.NAMES))
        return name, name, 2, lex.NAMES[name], False
    english, spanish, feminine, plural = noun_phrase(draw, nouns or lex.PEOPLE + lex.ANIMALS)
    return english, spanish, 4 if plural else 2, feminine, plural


def place(draw):
    """(English, Spanish) of "in the garden"."""
    english, spanish, _, _ = noun_phrase(draw, lex.PLACES, definite=True)
    return f"in {english}", f"en {spanish}"


def things(draw):
    """"the red house", "my friends", "in the garden"."""
    if draw.random() < 0.2:
        return place(draw)
    return noun_phrase(draw, lex.THINGS + lex.ANIMALS + lex.PEOPLE + lex.PLACES)[:2]


# Clauses ----------------------------------------------------------------------------------------

def clause(draw, verb, who, tense, rest, resto):
    """A statement, its negation, or a question."""
    english, spanish, person, _, _ = who
    form = verb.spanish[tense][person]
    third, particle = person == 2, f" {verb.particle}" if verb.particle else ""
    rest, resto = f"{particle}{rest}", resto
    mood = draw.choices(("statement", "negation", "question"), (60, 25, 15))[0]
    helper = {"present": "does" if third else "do", "past": "did", "future": "will"}[tense]
    if mood == "negation":
        return f"{english} {helper} not {verb.base}{rest}", f"{spanish} no {form}{resto}"
    if mood == "question":
        return f"{helper} {english} {verb.base}{rest} ?", f"¿ {spanish} {form}{resto} ?"
    said = {"present": verb.third if third else verb.base, "past": verb.past, "future": f"will {verb.base}"}[tense]
    return f"{english} {said}{rest}", f"{spanish} {form}{resto}"


def a_tense(draw):
    return draw.choice(("present", "past", "future"))


def with_object(draw):
    """"the girl buys a red house"."""
    verb = draw.choice([*lex.TRANSITIVE, lex.READ, lex.EAT])
    if verb in lex.SOCIAL and draw.random() < 0.4:
        english, spanish, _, _ = noun_phrase(draw, lex.PEOPLE, definite=True)
        spanish = f"a {spanish}".replace("a el ", "al ", 1) if spanish.startswith("el ") else f"a {spanish}"
    else:
        only = lex.READABLE if verb is lex.READ else lex.EATABLE if verb is lex.EAT else None
        english, spanish, _, _ = noun_phrase(draw, [n for n in lex.THINGS if only is None or n.english[0] in only])
    tense = a_tense(draw)
    if verb is lex.READ and tense == "past":  # "read" is both tenses: a sentence has one translation
        tense = "present"
    rest, resto = f" {english}", f" {spanish}"
    if draw.random() < 0.2:
        when, cuando = draw.choice(lex.TIMES[tense])
        rest, resto = f"{rest} {when}", f"{resto} {cuando}"
    return clause(draw, verb, subject(draw), tense, rest, resto)


def without_object(draw):
    """"we will dance in the garden tomorrow"."""
    tense, rest, resto = a_tense(draw), "", ""
    if draw.random() < 0.5:
        where, donde = place(draw)
        rest, resto = f" {where}", f" {donde}"
    if draw.random() < 0.5:
        when, cuando = draw.choice(lex.TIMES[tense])
        rest, resto = f"{rest} {when}", f"{resto} {cuando}"
    return clause(draw, draw.choice(lex.INTRANSITIVE), subject(draw), tense, rest, resto)


def to_be(draw):
    """"the house is big", "she was tired", "the cats are in the kitchen"."""
    what = draw.choice(("quality", "state", "place"))
    who = subject(draw, lex.THINGS + lex.PLACES if what == "quality" and draw.random() < 0.7 else None)
    english, spanish, person, feminine, plural = who
    tense = a_tense(draw)
    if what == "place":
        after, luego = place(draw)
        verb = lex.ESTAR
    else:
        after, luego = draw.choice(lex.ADJECTIVES if what == "quality" else lex.STATES)
        luego = lex.agree(luego, feminine, plural)
        verb = lex.SER if what == "quality" else lex.ESTAR
    be, form = lex.BE[tense][person], verb[tense][person]
    mood = draw.choices(("statement", "negation", "question"), (60, 25, 15))[0]
    if mood == "question":
        first, _, other = be.partition(" ")
        return f"{first} {english} {other + ' ' if other else ''}{after} ?", f"¿ {spanish} {form} {luego} ?"
    if mood == "negation":
        be = "will not be" if tense == "future" else f"{be} not"
        return f"{english} {be} {after}", f"{spanish} no {form} {luego}"
    return f"{english} {be} {after}", f"{spanish} {form} {luego}"


def there_is(draw):
    """"there are two dogs in the street"."""
    noun, (where, donde) = draw.choice(lex.THINGS + lex.ANIMALS + lex.PEOPLE), place(draw)
    adjective = draw.choice(lex.ADJECTIVES) if draw.random() < 0.4 else None
    n = 1 if draw.random() < 0.4 else draw.randrange(2, 100)
    plural = n > 1
    english, spanish = noun.english[plural], noun.spanish[plural]
    if adjective:
        english, spanish = f"{adjective[0]} {english}", f"{spanish} {lex.agree(adjective[1], noun.feminine, plural)}"
    article = "an" if english[0] in "aeiou" else "a"
    count = numbers.english(n) if plural else article
    return (f"there {'are' if plural else 'is'} {count} {english} {where}",
            f"hay {numbers.spanish(n, noun.feminine)} {spanish} {donde}")


# Numbers, dates and times -----------------------------------------------------------------------

def number(draw):
    """"three hundred forty five"; long ones and short ones."""
    n = draw.randrange(10 ** draw.randrange(1, 7))
    return numbers.english(n), numbers.spanish(n)


def date(draw):
    """"monday the third of may of two thousand ten"."""
    day = draw.randrange(1, 32)
    month, mes = draw.choice(list(numbers.MONTHS.items()))
    english, spanish = f"the {numbers.ordinal(day)} of {month}", f"{numbers.day(day)} de {mes}"
    if draw.random() < 0.5:
        when, cuando = numbers.year(draw.randrange(1910, 2100))
        english, spanish = f"{english} of {when}", f"{spanish} de {cuando}"
    weekday, dia = draw.choice(list(numbers.WEEKDAYS.items()))
    form = draw.randrange(4)
    if form == 0:
        return english, f"el {spanish}"
    if form == 1:
        return f"{weekday} {english}", f"el {dia} {spanish}"
    if form == 2:
        return f"today is {weekday} {english}", f"hoy es {dia} {spanish}"
    return f"tomorrow is {weekday} {english}", f"mañana es {dia} {spanish}"


def time(draw):
    """"it is half past three in the afternoon", "at one o'clock"."""
    english, spanish = numbers.clock(draw.randrange(1, 13), draw.randrange(0, 60, 5))
    if draw.random() < 0.5:
        part, parte = draw.choice((("morning", "mañana"), ("afternoon", "tarde"), ("evening", "noche")))
        english, spanish = f"{english} in the {part}", f"{spanish} de la {parte}"
    form = draw.randrange(3)
    if form == 0:
        return f"it is {english}", f"{'es' if spanish.startswith('la ') else 'son'} {spanish}"
    if form == 1:
        return f"at {english}", f"a {spanish}"
    person = draw.choice(lex.PRONOUNS)
    verb, tense = draw.choice(lex.INTRANSITIVE), a_tense(draw)
    return clause(draw, verb, person, tense, f" at {english}", f" a {spanish}")


def phrase(draw):
    """"hello world"; a greeting with a name."""
    if draw.random() < 0.7:
        return draw.choice(lex.PHRASES)
    return draw.choice(_GREETINGS)


_GREETINGS = [(f"{english} , {name}", f"{spanish} , {name}") for name in lex.NAMES for english, spanish in (
    ("hello", "hola"), ("good morning", "buenos días"), ("good night", "buenas noches"), ("goodbye", "adiós"),
    ("thank you", "gracias"))] + [(f"my name is {name}", f"me llamo {name}") for name in lex.NAMES]

#: The finite lists, which are learnt whole.
_LEARNT = {english for english, _ in [*lex.PHRASES, *_GREETINGS]}

#: Kind -> the function that draws a sentence, and its share.
KINDS = {
    "phrases": (phrase, 6), "things": (things, 8), "numbers": (number, 16), "dates": (date, 9), "times": (time, 9),
    "objects": (with_object, 24), "intransitive": (without_object, 12), "being": (to_be, 16), "there": (there_is, 8),
}


def vocabulary():
    """All words, English and Spanish, sorted; what no phrase draws cannot be in a sentence."""
    draw, words = random.Random(0), set()
    for sentences in ([*lex.PHRASES, *_GREETINGS], [pair(draw) for _ in range(100_000)]):
        for english, spanish in sentences:
            words.update(english.split(), spanish.split())
    return sorted(words)


def held_out_pairs(count, seed=1):
    """`count` distinct held-out pairs of every kind in turn (phrases are all learnt): (kind, English, Spanish)."""
    draw, found, kinds = random.Random(seed), {}, [kind for kind in KINDS if kind != "phrases"]
    while len(found) < count:
        kind = kinds[len(found) % len(kinds)]
        english, spanish = pair(draw, kind)
        if is_held_out(english) and english not in found:
            found[english] = (kind, english, spanish)
    return list(found.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    for _ in range(arguments.count):
        print(" = ".join(pair(draw)))


if __name__ == "__main__":
    main()
