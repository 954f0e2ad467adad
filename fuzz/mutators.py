"""Changes of an input that keep some of its structure, so that not all of them fail at the first check.

Each takes bytes and a `random.Random`, and gives other bytes; the same seed gives the same change.
"""

import copy
import io
import json
import struct
import zipfile

_NUMBERS = (0, 1, -1, 2, 3, 7, 8, 16, 33, 127, 128, 255, 256, 1000, 32767, 65536, 10**6, 2**31 - 1, 2**31, 2**32,
            2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -2**31, -2**63, 10**19, 10**20)
_VALUES = (None, True, False, 0.5, -0.0, 1e300, 1e-300, float("nan"), float("inf"), "", "a", "..", "../x",
           "/etc/passwd", "\0", "\ud800", "é", "\u2581", "a" * 300, [], {}, [[]], [0], ["a"], {"a": 1}, [[0, 1]], "1",
           "null", *_NUMBERS)
_BYTES = (b"", b"\0", b"\xff", b'"', b"\\", b"[", b"]", b"{", b"}", b",", b":", b"[[[[", b'{"a":', b"null", b"-0",
          b"1e9", b"1e999", b"\\ud800", b"\\u0000", b"NaN", b"Infinity", b"\xef\xbb\xbf", b"\xc3", b" ",
          b"\n", b"..", b"/",
          b"0" * 40, b"[" * 40, *(n.to_bytes(8, "little") for n in _NUMBERS if 0 <= n < 2**64))


def of_bytes(data, random):
    """A few places changed, cut out, doubled or moved."""
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 2, 4, 8, 30)))
        kind = random.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end]
        elif kind == 3:
            data[at:end] = random.choice(_BYTES)
        elif kind == 4:
            to = random.randrange(len(data) + 1)
            data[to:to] = data[at:end]
        elif random.randrange(8) == 0:
            del data[at:]
        else:
            data[at:at] = random.choice(_BYTES)
    return bytes(data)


def of_value(value, random, words=()):
    """A parsed JSON value with one of its parts changed; `value` itself may change."""
    places = list(_places(value))
    if not places or random.randrange(40) == 0:
        return copy.deepcopy(random.choice(_VALUES))
    parent, key = random.choice(places)
    kind = random.randrange(9)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[random.choice((*words, "a", "", "x" * 30))] = parent[key]
    elif kind == 1:
        parent.insert(key, parent[key])
    elif kind == 2:
        other, name = random.choice(places)
        parent[key] = copy.deepcopy(other[name])
    elif kind in (3, 4) and type(parent[key]) is int:
        parent[key] += random.choice((-1, 1, 2, -4, 8, 256, 2**32, 2**64))
    elif kind == 5 and isinstance(parent[key], str):
        parent[key] = of_bytes(parent[key].encode("utf-8", "surrogatepass"), random).decode("utf-8", "replace")
    elif kind == 6 and words:
        parent[key] = random.choice(words)
    elif kind == 7 and isinstance(parent, dict) and words:
        parent[random.choice(words)] = copy.deepcopy(random.choice(_VALUES))
    else:
        parent[key] = copy.deepcopy(random.choice(_VALUES))
    return value


def _places(value):
    for key in list(value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
        yield value, key
        yield from _places(value[key])


def of_json(data, random, words=()):
    """JSON text with parts of its value changed, mostly; else some of its bytes. words: strings to put in."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return of_bytes(data, random)
    if random.randrange(6) == 0:
        return of_bytes(data, random)
    for _ in range(random.choice((1, 1, 2, 3))):
        value = of_value(value, random, words)
        if len(data) > 20_000:  # one part may be all the others
            break
    try:
        text = json.dumps(value, ensure_ascii=bool(random.randrange(2))).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return of_bytes(data, random)
    return of_bytes(text, random) if random.randrange(10) == 0 else text


def of_safetensors(data, random, words=()):
    """A safetensors file with another header or other data; in half of them the header's length still fits."""
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8 or random.randrange(10) == 0:
        return of_bytes(data, random)
    header, rest = data[8:8 + length], data[8 + length:]
    if random.randrange(4):
        header = of_json(header, random, (*words, "F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64",
                                          "dtype", "shape", "data_offsets", "__metadata__"))
    else:
        rest = of_bytes(rest, random)
    if random.randrange(2):
        length = len(header)
    return length.to_bytes(8, "little") + header + rest


def of_npz(data, random, words=()):
    """An .npz archive with one of its members changed, its own structure made anew in most."""
    if random.randrange(4) == 0:
        return of_bytes(data, random)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [[member.filename, archive.read(member)] for member in archive.infolist()][:64]
    except Exception:  # whatever zipfile says of a damaged one
        return of_bytes(data, random)
    if members:
        member = random.choice(members)
        kind = random.randrange(6)
        if kind == 0:
            members.append(list(member))
        elif kind == 1:
            members.remove(member)
        elif kind == 2:
            member[0] = of_bytes(member[0].encode("utf-8", "replace"), random).decode("utf-8", "replace")
        elif member[1][128:129] == b"{":
            header, text = member[1][:128], of_json(member[1][128:], random, words)
            member[1] = header.replace(str(len(member[1]) - 128).encode(), str(len(text)).encode()) + text
        else:
            member[1] = of_bytes(member[1], random)
    file = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if random.randrange(10) == 0 else zipfile.ZIP_STORED
    try:
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, content in members:
                archive.writestr(name, content)
            if archive.filelist and random.randrange(10) == 0:  # a lie in the directory at the end
                field = random.choice(("file_size", "compress_size", "header_offset", "compress_type", "flag_bits"))
                entry = random.choice(archive.filelist)
                setattr(entry, field, random.choice((getattr(entry, field) + random.choice((-8, -1, 1, 2, 8, 4096)),
                                                     *(n for n in _NUMBERS if 0 <= n < 2**15))))
                archive._didModify = True
    except (ValueError, IndexError, struct.error):  # a name, or a size below 0, that zipfile does not write
        return of_bytes(data, random)
    return file.getvalue()


# Protocol buffers, for SentencePiece's models ------------------------------------------------------

def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128 or shift > 63:
            return value, at


def _varint_bytes(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields_of(data):
    """[number and wire type, value] of each field of a message: an integer, or bytes. IndexError if it is none."""
    at, fields = 0, []
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            size, at = (8, at) if kind == 1 else (4, at) if kind == 5 else _varint(data, at)
            value, at = data[at:at + size], at + size
            if at > len(data):
                raise IndexError("cut short")
        else:
            raise IndexError("no field")
        fields.append([tag, value])
    return fields


def message_of(fields):
    """The bytes of such a list."""
    out = bytearray()
    for tag, value in fields:
        out += _varint_bytes(tag)
        if tag & 7 == 0:
            out += _varint_bytes(value)
        else:
            out += (_varint_bytes(len(value)) if tag & 7 == 2 else b"") + value
    return bytes(out)


def of_message(data, random, depth=0):
    """A message of protocol buffers with one of its fields changed."""
    try:
        fields = fields_of(data)
    except IndexError:
        return of_bytes(data, random)
    if not fields or random.randrange(10) == 0:
        return of_bytes(data, random)
    # The few fields of another number than most are the interesting ones: the specifications.
    numbers = sorted({tag for tag, _ in fields})
    number = random.choice(numbers)
    field = random.choice([field for field in fields if field[0] == number])
    kind = random.randrange(8)
    if kind == 0:
        fields.remove(field)
    elif kind == 1:
        fields.insert(random.randrange(len(fields) + 1), list(field))
    elif kind == 2:
        field[1] = random.choice(fields)[1] if field[0] & 7 == 2 else field[1]
        field[1] = field[1] if isinstance(field[1], bytes) or field[0] & 7 == 0 else b""
    elif isinstance(field[1], int):
        field[1] = random.choice((field[1] + 1, field[1] ^ 1, 0, 1, 2, 3, 4, 5, 6, 127, 2**31 - 1, 2**31, 2**32 - 1,
                                  2**63, 2**64 - 1))
    elif field[0] & 7 != 2:
        field[1] = of_bytes(field[1], random)[:len(field[1])].ljust(len(field[1]), b"\x7f")
    else:
        field[1] = of_message(field[1], random, depth + 1) if depth < 3 else of_bytes(field[1], random)
    return message_of(fields)
