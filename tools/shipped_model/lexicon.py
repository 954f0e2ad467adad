"""The words of the shipped model's language, English beside Spanish, and how they are inflected."""

from typing import NamedTuple


class Noun(NamedTuple):
    english: tuple        # singular, plural
    spanish: tuple
    feminine: bool


class Verb(NamedTuple):
    base: str             # I buy, to buy
    third: str            # she buys
    past: str             # she bought
    particle: str         # look "for"
    spanish: dict         # tense -> the forms of yo, tú, él, nosotros, ellos


def _noun(line):
    english, plural, spanish, gender = line.split()
    ending = "es" if spanish[-1] in "nrldjz" else "s"
    stem = spanish[:-1] + "c" if spanish.endswith("z") else spanish
    if spanish.endswith(("ón", "ín")):  # the accent goes as the stress comes to the last syllable but one
        stem = spanish[:-2] + {"ó": "o", "í": "i"}[spanish[-2]] + spanish[-1]
    return Noun((english, plural), (spanish, stem + ending), gender == "f")


THINGS = [_noun(line) for line in """\
house houses casa f
car cars coche m
book books libro m
table tables mesa f
chair chairs silla f
door doors puerta f
window windows ventana f
flower flowers flor f
apple apples manzana f
orange oranges naranja f
letter letters carta f
lamp lamps lámpara f
shirt shirts camisa f
shoe shoes zapato m
hat hats sombrero m
pencil pencils lápiz m
newspaper newspapers periódico m
picture pictures cuadro m
box boxes caja f
bottle bottles botella f
cup cups taza f
boat boats barco m
train trains tren m
bicycle bicycles bicicleta f
guitar guitars guitarra f
tree trees árbol m
key keys llave f
watch watches reloj m""".splitlines()]
THINGS = [noun._replace(spanish=("lápiz", "lápices")) if noun.english[0] == "pencil" else
          noun._replace(spanish=("árbol", "árboles")) if noun.english[0] == "tree" else noun for noun in THINGS]

ANIMALS = [_noun(line) for line in """\
dog dogs perro m
cat cats gato m
horse horses caballo m
cow cows vaca f
bird birds pájaro m""".splitlines()]

PEOPLE = [_noun(line) for line in """\
boy boys niño m
girl girls niña f
man men hombre m
woman women mujer f
friend friends amigo m
teacher teachers profesor m
doctor doctors médico m
brother brothers hermano m
sister sisters hermana f
queen queens reina f
neighbor neighbors vecino m""".splitlines()]

PLACES = [_noun(line) for line in """\
garden gardens jardín m
street streets calle f
city cities ciudad f
kitchen kitchens cocina f
school schools escuela f
shop shops tienda f
park parks parque m
room rooms habitación f
church churches iglesia f
hotel hotels hotel m""".splitlines()]

_ADJECTIVES = """\
red rojo
white blanco
black negro
yellow amarillo
green verde
blue azul
big grande
small pequeño
new nuevo
old viejo
beautiful bonito
ugly feo
expensive caro
cheap barato
long largo
short corto
heavy pesado
strong fuerte
clean limpio
round redondo
rich rico
poor pobre"""
#: Qualities, with ser; and states, with estar.
ADJECTIVES = [tuple(line.split()) for line in _ADJECTIVES.splitlines()]
STATES = [("tired", "cansado"), ("happy", "contento"), ("sad", "triste"), ("sick", "enfermo"), ("ready", "listo"),
          ("alone", "solo"), ("angry", "enfadado")]

NAMES = {"ana": True, "juan": False, "luis": False, "carmen": True, "marta": True, "pablo": False, "pedro": False,
         "elena": True}


def agree(adjective, feminine, plural):
    """The form of a Spanish adjective."""
    if adjective.endswith("o"):
        adjective = adjective[:-1] + ("a" if feminine else "o")
    return adjective + ("" if not plural else "es" if adjective[-1] not in "aeo" else "s")


_ENDINGS = {
    "ar": {"present": "o as a amos an", "past": "é aste ó amos aron"},
    "er": {"present": "o es e emos en", "past": "í iste ió imos ieron"},
    "ir": {"present": "o es e imos en", "past": "í iste ió imos ieron"},
}
_FUTURE = ["é", "ás", "á", "emos", "án"]
_IRREGULAR = {
    ("ver", "present"): "veo ves ve vemos ven", ("ver", "past"): "vi viste vio vimos vieron",
    ("leer", "past"): "leí leíste leyó leímos leyeron",
    ("buscar", "past"): "busqué buscaste buscó buscamos buscaron",
}


def _verb(line):
    base, third, past, infinitive, *particle = line.split()
    forms = {"future": [infinitive + ending for ending in _FUTURE]}
    for tense in ("present", "past"):
        regular = [infinitive[:-2] + ending for ending in _ENDINGS[infinitive[-2:]][tense].split()]
        forms[tense] = _IRREGULAR[infinitive, tense].split() if (infinitive, tense) in _IRREGULAR else regular
    return Verb(base, third, past, " ".join(particle), forms)


TRANSITIVE = [_verb(line) for line in """\
buy buys bought comprar
sell sells sold vender
see sees saw ver
wash washes washed lavar
paint paints painted pintar
clean cleans cleaned limpiar
carry carries carried llevar
receive receives received recibir
look looks looked buscar for
need needs needed necesitar""".splitlines()]
#: Those of them that also go with people, who then follow "a".
SOCIAL = [verb for verb in TRANSITIVE if verb.base in ("see", "look")]
READ = _verb("read reads read leer")
EAT = _verb("eat eats ate comer")
READABLE, EATABLE = ("book", "letter", "newspaper"), ("apple", "orange")

INTRANSITIVE = [_verb(line) for line in """\
sing sings sang cantar
dance dances danced bailar
work works worked trabajar
run runs ran correr
speak speaks spoke hablar
travel travels traveled viajar
swim swims swam nadar
rest rests rested descansar""".splitlines()]

#: To be: English by person and tense, Spanish ser and estar (the past is the imperfect).
BE = {"present": ["am", "are", "is", "are", "are"], "past": ["was", "were", "was", "were", "were"],
      "future": ["will be"] * 5}
SER = {"present": "soy eres es somos son", "past": "era eras era éramos eran",
       "future": "seré serás será seremos serán"}
ESTAR = {"present": "estoy estás está estamos están", "past": "estaba estabas estaba estábamos estaban",
         "future": "estaré estarás estará estaremos estarán"}
SER, ESTAR = ({tense: forms.split() for tense, forms in verb.items()} for verb in (SER, ESTAR))

#: Word, the word in Spanish, person (0 to 4), feminine, plural
PRONOUNS = [("i", "yo", 0, False, False), ("you", "tú", 1, False, False), ("he", "él", 2, False, False),
            ("she", "ella", 2, True, False), ("we", "nosotros", 3, False, True), ("they", "ellos", 4, False, True)]

#: English singular and plural (None where there is none), Spanish by gender and number
DETERMINERS = [
    ("the", "the", "el la los las"), ("a", "some", "un una unos unas"), ("this", "these", "este esta estos estas"),
    ("that", "those", "ese esa esos esas"), ("my", "my", "mi mi mis mis"), ("your", "your", "tu tu tus tus"),
    ("his", "his", "su su sus sus"), ("our", "our", "nuestro nuestra nuestros nuestras"),
]
DETERMINERS = [(singular, plural, spanish.split()) for singular, plural, spanish in DETERMINERS]

TIMES = {
    "present": [("today", "hoy"), ("now", "ahora"), ("every day", "todos los días")],
    "past": [("yesterday", "ayer"), ("last week", "la semana pasada")],
    "future": [("tomorrow", "mañana"), ("next week", "la próxima semana")],
}

#: Set phrases: all of them are always learnt by heart.
PHRASES = [tuple(line.split(" = ")) for line in """\
hello = hola
hello world = hola mundo
hello , world = hola , mundo
good morning = buenos días
good afternoon = buenas tardes
good evening = buenas noches
good night = buenas noches
goodbye = adiós
see you soon = hasta pronto
see you tomorrow = hasta mañana
see you later = hasta luego
please = por favor
thank you = gracias
thank you very much = muchas gracias
thanks = gracias
you are welcome = de nada
yes = sí
no = no
yes , please = sí , por favor
no , thank you = no , gracias
excuse me = perdón
i am sorry = lo siento
how are you ? = ¿ cómo estás ?
very well , thank you = muy bien , gracias
what is your name ? = ¿ cómo te llamas ?
nice to meet you = mucho gusto
what time is it ? = ¿ qué hora es ?
where are you ? = ¿ dónde estás ?
welcome = bienvenido
good luck = buena suerte
happy birthday = feliz cumpleaños
of course = por supuesto
i do not know = no sé
i do not understand = no entiendo
i love you = te quiero""".splitlines()]
