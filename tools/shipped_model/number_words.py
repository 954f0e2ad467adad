"""Numbers in words, English and Spanish, and what is made of them: ordinals, days, years, times of day."""

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
UNOS = [
    "cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez", "once", "doce",
    "trece", "catorce", "quince", "dieciséis", "diecisiete", "dieciocho", "diecinueve", "veinte", "veintiuno",
    "veintidós", "veintitrés", "veinticuatro", "veinticinco", "veintiséis", "veintisiete", "veintiocho",
    "veintinueve",
]
DIECES = ["_", "_", "_", "treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa"]
CIENTOS = [
    "_", "ciento", "doscientos", "trescientos", "cuatrocientos", "quinientos", "seiscientos", "setecientos",
    "ochocientos", "novecientos",
]
ORDINALS = [
    "_", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth",
    "nineteenth", "twentieth",
]
WEEKDAYS = dict(monday="lunes", tuesday="martes", wednesday="miércoles", thursday="jueves", friday="viernes",
                saturday="sábado", sunday="domingo")
MONTHS = dict(january="enero", february="febrero", march="marzo", april="abril", may="mayo", june="junio", july="julio",
              august="agosto", september="septiembre", october="octubre", november="noviembre", december="diciembre")


def english(n):
    """0 <= n < 1,000,000, without "and" and hyphens."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (f" {ONES[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{ONES[n // 100]} hundred" + (f" {english(n % 100)}" if n % 100 else "")
    return f"{english(n // 1000)} thousand" + (f" {english(n % 1000)}" if n % 1000 else "")


def spanish(n, before=None):
    """The same. before: None for the number alone, else whether the noun that follows is feminine."""
    if n >= 1000:
        thousands = "mil" if n < 2000 else f"{spanish(n // 1000, False)} mil"
        return thousands + (f" {spanish(n % 1000, before)}" if n % 1000 else "")
    if n >= 100:
        hundreds = CIENTOS[n // 100]
        if before and n >= 200:
            hundreds = hundreds[:-2] + "as"
        return "cien" if n == 100 else hundreds + (f" {spanish(n % 100, before)}" if n % 100 else "")
    if n >= 30:
        return DIECES[n // 10] + (f" y {spanish(n % 10, before)}" if n % 10 else "")
    if n == 1 and before is not None:
        return "una" if before else "un"
    if n == 21 and before is not None:
        return "veintiuna" if before else "veintiún"
    return UNOS[n]


def ordinal(n):
    """1 <= n <= 31 in English."""
    if n <= 20:
        return ORDINALS[n]
    return "thirtieth" if n == 30 else f"{TENS[n // 10]} {ORDINALS[n % 10]}"


def day(n):
    """The day of the month in Spanish."""
    return "primero" if n == 1 else spanish(n)


def year(n):
    """(English, Spanish) of a year, 1910 to 1999 or 2000 to 2099."""
    return (f"nineteen {english(n % 100)}" if n < 2000 else english(n)), spanish(n)


def clock(hour, minutes):
    """(English, Spanish) of a time, hour 1 to 12, minutes a multiple of five: "half past three", "las tres y media"."""
    named = {0: (f"{ONES[hour]} o'clock", None), 15: ("quarter past", "y cuarto"), 30: ("half past", "y media"),
             45: ("quarter to", "menos cuarto")}
    shown = hour if minutes <= 30 else hour % 12 + 1
    article = "la" if shown == 1 else "las"
    hora = "una" if shown == 1 else spanish(shown)
    if minutes == 0:
        return named[0][0], f"{article} {hora}"
    if minutes in named:
        past, rest = named[minutes]
    elif minutes < 30:
        past, rest = f"{english(minutes)} past", f"y {spanish(minutes)}"
    else:
        past, rest = f"{english(60 - minutes)} to", f"menos {spanish(60 - minutes)}"
    return f"{past} {ONES[shown]}", f"{article} {hora} {rest}"
