"""Regular expressions of a tokenizer.json: those of real tokenizers are accepted, those that take for ever are not."""

import json
import random
import time

import pytest

from rtfast import CheckpointError
from rtfast.subwords import patterns, tokenizer_of

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: no tokenizer.json to read")

#: As the files of these models have them.
REAL = {
    "GPT-2, BART, RoBERTa": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
              r"|\s+(?!\S)|\s+",
    "Llama 3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "Qwen 2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
              r"|\s+(?!\S)|\s+",
    "o200k, Llama 4": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
                      r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
                      r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
                      r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "T5, NLLB": " {2,}",
    "CLIP": r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "CLIP's blanks": r"\s+",
    "BLOOM": " ?[^(\\s|[.,!?…。，、।۔،])]+",
    "Falcon": "[0-9][0-9][0-9]",
    "DeepSeek, numbers": r"\p{N}{1,3}",
    "DeepSeek, Chinese": "[一-龥぀-ゟ゠-ヿ]+",
    "DeepSeek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
                r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "DeepSeek Coder": r"\s?\p{L}+",
    "Kimi": r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|\s+(?!\S)|\s+",
    "digits from the right": r"(?=(\d{3})+(?!\d))",
    "digits by three": r"\d{1,3}(?=(?:\d{3})*\b)",
    "after a digit": r"(?<=\d)(?=(?:\d{3})+(?!\d))",
    "SMILES": r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|\%[0-9]{2}"
              r"|[0-9])",
    "many words": "|".join(f"<{i}>" for i in range(900)) + r"|\s+(?!\S)",
    "ends of a text, T5": r"\A +| +\z", "blanks, DeBERTa": r"\s{2,}|[\n\r\t]", "SeamlessM4T": "^▁+$",
    "WordLevel": r"\w+|[^\w\s]+",
    "without case": "(?i:[a-z]+x)|(?i:a)(?-i:[ß]+x)|(?<i>[ß]+)x|(?i:a)[ß]+x|(?i)(?-i)[ß]+x|(?i)[-_!'*s]+x",
    "a named group": r"(?<word>[[:alpha:]]+)\n?", "options": r"(?i)abc|def",
    "numbers of letters": r"\x41\x{20AC}\u00e9",
    "braces": r"{a}|\{b{|x{,3}y", "nothing": "", "lazy": r"<.+?>", "atomic": r"(?>\s+)x", "an end": r"^\s+|\s+$",
}
#: Each with the reason in the message.
HOSTILE = {
    "(a+)+$": "several ways", "(a*)*": "several ways", "(?:a|a)*b": "several ways", "(?:a|b)+": "several ways",
    "(?:a?)*b": "several ways", "(?:a{1,2})+b": "several ways", "((a|b){3})*": "several ways",
    "(?i)(a+)+$": "several ways", r"[\]](a+)+$": "several ways", "[[a](a+)](a+)+$": "several ways",
    r"\[(a+)+$": "several ways", r"(?<x>a+)+$": "several ways", "(?>a+)+$": "several ways",
    "(?:(?=a*b).)*": "several ways", r"[[:alpha:]](a+)+$": "several ways", "x{(a+)+$": "several ways",
    "a*a*[xyz]": "one after the other", "a+?a+?[xyz]": "one after the other", "a*+a*+[xyz]": "one after the other",
    "a*(?=a*)[xyz]": "one after the other", ".*,.*;": "one after the other", "a*(?=b*c)": "one after the other",
    "(?:a*)(?:b*)$": "one after the other",
    "(?i)a*(?i)a*(?i)x": "one after the other", "a*(?:b?|c)a*x": "one after the other",
    "(?:a*){3}x": "repetition of a repetition", "(?:a*x){2,3}": "repetition of a repetition",
    "a?" * 10: "ways", "(?:a|b)" * 10: "ways", "(?:a?b?c?d?){5}": "ways", "(?:(?:a|b){3}){4}": "ways",
    "(?:a|b){٠}" * 10: "ways",
    "a{0,1000}b": "ways", "(?:a{1,9}){9}": "ways", "|".join(["a"] * 1001): "ways", "a{3}?" * 10: "ways",
    "a{1001}": "at most 1000", "a{9999999}": "large number", "a{3,2}": "smaller number first",
    "a++?": "of a repetition", "a**": "of a repetition", "a{2}{3}": "of a repetition", "a{2}+": "of a repetition",
    "*a": "of nothing", "(?:|+)": "of nothing",
    r"(a*)\1": "not supported", r"(?<n>a)\g<n>": "not supported", r"\k<n>": "not supported", "(?~a)": "not supported",
    r"\X": "not supported", r"\R": "not supported", r"\K": "not supported", "(?x) a # )": "not supported",
    "(?#)": "not supported", "(?(1)a|b)": "not supported", "(?)": "not supported", r"\c]": "not supported",
    r"[\c]](a+)+$": "not supported", "[]](a+)+$": "must be escaped", "[^]](a+)+$": "must be escaped",
    "[[:x:](a+)+$]": "must be escaped", "\\": "not supported", "[\\": "not supported",
    "(a": "does not end", "(?i": "not supported", "(?i)a)": "closes nothing", "[a": "does not end",
    "[a[b]": "does not end", "(?:a|b|c|d){3}a{0,1}b*c": "more than 64 ways",
    "(?:a|b*c)" + "(?:a|b)" * 7: "more than 64 ways", "|".join(["a*b"] * 65): "more than 64 ways",
    "(?:a*b)?(?:a|b){6}": "more than 64 ways", "(?=a*(?:b|c)?)" + "(?:a|b)" * 6: "more than 64 ways",
    "(?i)" + "[sß]" * 10: "more than 1000 ways", "(?i:" + "[^a]" * 10 + ")": "more than 1000 ways",
    r"(?i)[\p{L}]+x": "several ways", "(?m-i:(?i)[aß]*x)": "several ways", "(?i)(?<i>[ß]+)": "several ways",
    "a)": "closes nothing", "(?:" * 33 + ")" * 33: "groups within groups", "(?i)" * 40: "groups within groups",
}


def write(folder, pattern, key="Regex", place="pre_tokenizer", escape=False):
    """A tokenizer.json with the pattern, of whole words."""
    parts = {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {key: pattern}, "behavior": "Isolated", "invert": False}]},
        "normalizer": {"type": "Replace", "pattern": {key: pattern}, "content": "x"},
        "decoder": {"type": "Replace", "pattern": {key: pattern}, "content": "x"}}
    value = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
             "pre_tokenizer": None, "post_processor": None, "decoder": None, place: parts[place],
             "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "Regex": 1, "a": 2}, "unk_token": "<unk>"}}
    text = json.dumps(value, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(text.replace("Regex", "\\u0052egex") if escape else text, encoding="utf-8")


def read(folder):
    return tokenizer_of(str(folder), {"model_type": "bart"})


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("place", ["pre_tokenizer", "normalizer", "decoder"])
def test_what_real_tokenizers_have(tmp_path, name, place):
    write(tmp_path, REAL[name], place=place)
    tokenizer = read(tmp_path)
    assert tokenizer.encode("Hello  there, it's 1234567 o'clock\r\n  你好 a") is not None
    tokenizer.decode([1, 2])


@pytest.mark.parametrize("pattern", HOSTILE)
def test_what_may_take_for_ever(tmp_path, pattern):
    with pytest.raises(ValueError, match=HOSTILE[pattern]):
        patterns.check_pattern(pattern)
    for place in ("pre_tokenizer", "normalizer", "decoder"):
        write(tmp_path, pattern, place=place)
        with pytest.raises(CheckpointError) as error:
            read(tmp_path)
        assert str(error.value).startswith(f"{tmp_path / 'tokenizer.json'}: regular expression ")


def test_no_pattern_is_hidden(tmp_path):
    write(tmp_path, "(a+)+$", escape=True)
    with pytest.raises(CheckpointError, match="letters must be written as letters"):
        read(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text(encoding="utf-8").replace("\\u0052egex", "Regex")
    for between in ("\n\t:\r ", ":"):
        (tmp_path / "tokenizer.json").write_text(text.replace('"Regex": "', f'"Regex"{between}"'), encoding="utf-8")
        with pytest.raises(CheckpointError, match="several ways"):
            read(tmp_path)
    first = text.replace('{"Regex": "', '{"Regex": "a", "Regex": "')
    (tmp_path / "tokenizer.json").write_text(first, encoding="utf-8")
    with pytest.raises(CheckpointError, match="several ways"):
        read(tmp_path)


def test_words_that_look_like_patterns(tmp_path):
    write(tmp_path, "(a+)+$", key="String")
    assert read(tmp_path).encode("a (a+)+$")
    write(tmp_path, r"\\u0052")  # a backslash and a word
    assert read(tmp_path).encode(r"\u0052")


def test_length():
    patterns.check(json.dumps([{"Regex": "a" * 4096}] * 2))
    patterns.check(json.dumps([{"Regex": "a"}] * 64))
    for many in ([{"Regex": "a" * 4096}] * 2 + [{"Regex": "a"}], [{"Regex": "a"}] * 65):
        with pytest.raises(ValueError, match="at most 64, of 8192 characters in all"):
            patterns.check(json.dumps(many))
    begun = time.perf_counter()
    with pytest.raises(ValueError, match="letters"):
        patterns.check("\\" * 10**6 + '\\u0052')
    patterns.check('"Regex"' + " " * 10**6 + '"Regex' * 10**5)
    assert time.perf_counter() - begun < 2


PIECES = ["a", "b", ".", "[ab]", "[^x]", r"\w", "(?=", "(?!", "(?:", "(", ")", ")", "|", "*", "+", "?", "{2}", "{1,3}",
          "{2,}", "*?", "$", "[xyz]", "(?<=a)", r"\b", "c"]
LONG_TEXTS = ["a" * 200 + "cx", "ab" * 100 + "cx", ("a" * 24 + "c") * 8 + "x"]


def test_what_is_accepted_is_fast():
    """Thousands of patterns from pieces: those that are accepted take little time on texts made to be slow."""
    draws, accepted, slowest = random.Random(0), 0, (0.0, "")
    for _ in range(6000):
        pattern = "".join(draws.choice(PIECES) for _ in range(draws.randrange(2, 14)))
        try:
            patterns.check_pattern(pattern)
            split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
        except Exception:  # ours, or the engine's: a plain Exception
            continue
        accepted += 1
        begun = time.perf_counter()
        for text in LONG_TEXTS:
            split.pre_tokenize_str(text)
        slowest = max(slowest, (time.perf_counter() - begun, pattern))
    assert accepted > 300
    assert slowest[0] < 0.5, slowest


def test_what_is_refused_is_not_all():
    """The pieces make patterns that are slow in truth, too: this test's own texts would show them."""
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex("a*a*a*[xyz]"), "isolated")
    begun = time.perf_counter()
    split.pre_tokenize_str(LONG_TEXTS[0])
    assert time.perf_counter() - begun > 0.1
