"""What broke in peers, one test each. Here are those about files, ids and tokenizers that belong to no other file, in
test_peers_builds.py those about builds, numbers and processes; the table has all, and the others' files.

defect                                                     test
Loader arithmetic
  sizes multiplied or padded before the check overflow     test_safetensors_file: test_hostile_entries
  offsets not compared with the file's length              test_safetensors_file: test_hostile_layouts
  shape against span, span against file, in one place only test_safetensors_file: test_hostile_entries, _layouts
  an unknown dtype skips the other checks                  test_an_unknown_dtype_hides_nothing
  payload not tied to the shape                            test_safetensors_file: test_hostile_entries
  strings of length zero                                   test_empty_strings
  more dimensions than an array has                        test_safetensors_file: test_hostile_entries
  special ids outside the vocabulary                       test_config: test_ids_are_within_the_vocabulary
  zero heads, heads that do not divide                     test_families: test_a_config_that_does_not_fit; test_heads
  (ours) layers, positions, beams out of proportion        test_checkpoint: test_ten_thousand_layers...,
                                                           test_positions...; test_generate_api: test_a_file_may_not...
Ids and tokenizers
  a negative index of a byte token                         test_byte_tokens
  one bad id in a batch ends the process                   test_one_bad_id_in_a_batch; test_model: test_bad_ids
  offsets inside a SentencePiece model are trusted         test_damaged_sentencepiece_models
  a million repeated characters                            test_repeated_characters; test_tokenizer: test_a_million_...
  a special token one past the embedding                   test_a_tokenizer_with_a_word_more_than_the_model
  (ours) one object at two depths of nested ids            test_model: test_one_object_at_two_depths
Paths and code
  a shard index with .. or an absolute path                test_families: test_a_shard_outside_the_folder
  links of the Hugging Face cache refused                  test_checkpoint: test_links_of_the_hugging_face_cache
  links to devices and folders                             test_links_to_what_is_no_file
  chat templates are rendered                              test_chat_templates_are_not_looked_at
  pickles in spite of weights_only                         test_nothing_imports_pickle; test_checkpoint:
                                                           test_pickles_are_not_read
  a mapped file is cut short: SIGBUS                       test_save_and_load: test_a_loaded_model_outlives_its_files
Numbers and builds
  a build that CI never runs                               test_backend_interface: test_expected_backends_are_here
  inline code shared between instruction sets              test_peers_builds:
                                                           test_instructions_and_symbols_of_the_builds
  flush-to-zero set for the thread that loads              test_peers_builds: test_denormals_stay; test_backends:
                                                           test_importing_starts...
  fully masked rows, NaN in masked places                  test_attention: test_nothing_to_attend_gives_zeros,
                                                           test_masked_keys_and_values_have_no_influence
  offsets of 32 bits                                       test_peers_builds: test_offsets_beyond_32_bits
  padding saved in the cache as real tokens                test_generation: test_padding_changes_no_bit
In a process
  a session in a forked child                              test_peers_builds: test_many_forks;
                                                           test_threads_and_processes
  shared state under free threading                        test_threads_and_processes: test_a_model_is_shared_by_threads
  Ctrl-C waits for the end                                 test_peers_builds: test_interrupts_at_random_times;
                                                           test_threads_and_processes:
                                                           test_a_long_call_can_be_interrupted
  a failed allocation crashes                              test_peers_builds: test_failed_allocations

What finds what usual tests miss
  sums that are exact, one-hot probes at every k           test_matmul: test_whole_numbers_are_exact, test_one_hot_...
  scratch filled with 0x00, then 0xFF                      test_company: test_run_to_run_and_process_to_process
  a row in every company, on every number of threads       test_company; test_same_bits
  every truncation, every flipped bit; unaligned data      test_safetensors_file: test_every_...; test_trace_files;
                                                           test_damaged_configs
  audit events                                             test_save_and_load: test_what_a_model_does_to_the_system;
                                                           test_what_a_hugging_face_folder_does_to_the_system
"""

import json
import os
import pathlib
import re
import time

import pytest
from models import random_values, small_config
from subprocesses import printed, python

import rtfast
from rtfast import CheckpointError, safetensors_file

FUZZ = pathlib.Path(__file__).parents[1] / "fuzz"
needs_harnesses = pytest.mark.skipif(not FUZZ.is_dir(), reason="the harnesses, which make small files, are not here")


@pytest.fixture
def tools(monkeypatch):
    """What the fuzzing harnesses make: small tokenizers' files and folders of families."""
    monkeypatch.syspath_prepend(str(FUZZ))
    from harnesses import base, tokenizer_files

    return base, tokenizer_files


@pytest.fixture
def folder(tmp_path):
    rtfast.Transformer(small_config(), random_values(small_config())).save(tmp_path / "model")
    return tmp_path / "model"


# Loader arithmetic

def test_an_unknown_dtype_hides_nothing(tmp_path):
    """It is refused wherever it stands, before any tensor is read."""
    good = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for first in (True, False):
        for wrong in ({"dtype": "F8_E4M3", "shape": [8], "data_offsets": [8, 16]},
                      {"dtype": "Q4_K", "shape": [2**62], "data_offsets": [8, 2**62]}):
            header = {"bad": wrong, "x": good} if first else {"x": good, "bad": wrong}
            text = json.dumps(header).encode()
            (tmp_path / "f").write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
            with pytest.raises(CheckpointError, match="tensor 'bad': dtype must be one of"):
                safetensors_file.read(str(tmp_path / "f"))


def test_empty_strings(folder):
    config = json.loads((folder / "config.json").read_text())
    for fields in ({"model_type": ""}, {"dtype": ""}, {"activation": ""}, {"positions": ""}, {"": ""},
                   {"tokenizer": {"type": "word", "vocabulary": [""], "sos": "", "eos": "", "unknown": ""}}):
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        with pytest.raises(CheckpointError, match="config.json: "):
            rtfast.load(folder)
    (folder / "config.json").write_text("")
    with pytest.raises(CheckpointError, match="config.json: config must be JSON"):
        rtfast.load(folder)


@pytest.mark.parametrize("heads", [0, -1, 5, 13, 2**31])
def test_heads(folder, heads):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_heads": heads, "d_key": None, "d_value": None}))
    with pytest.raises(CheckpointError, match="config.json: Config: .*n_heads"):
        rtfast.load(folder)


def test_damaged_configs(folder):
    """Every truncation and every flipped bit of config.json: it loads or is a CheckpointError."""
    path, outcomes = folder / "config.json", []
    fields = json.loads(path.read_text())
    content = json.dumps({name: fields[name] for name in ("model_type", "format_version", "vocab_size", "d_model",
                                                          "n_heads", "d_ff", "n_encoder_layers", "n_decoder_layers")})
    damaged = [content[:i].encode() for i in range(len(content))]
    for i in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content.encode())
            flipped[i] ^= 1 << bit
            damaged.append(bytes(flipped))
    for data in damaged:
        path.write_bytes(data)
        try:
            rtfast.checkpoint.load(folder, stored=True)
            outcomes.append(True)
        except CheckpointError as error:
            assert str(error).startswith(str(folder)) and len(str(error)) < 20_000
            outcomes.append(False)
    assert outcomes.count(False) > 1000


# Ids and tokenizers

@needs_harnesses
def test_byte_tokens(tools, tmp_path):
    """Pieces that stand for bytes: each one alone, halves of characters, and ids beside theirs."""
    pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: no models of it to read")
    _, files = tools
    (tmp_path / "spiece.model").write_bytes(files.trained(byte_fallback=True, vocab_size=320))
    tokenizer = rtfast.subwords.tokenizer_of(str(tmp_path), {"model_type": "t5"})
    names = tokenizer.tokens(range(len(tokenizer)))
    first, last = names.index("<0x00>"), names.index("<0xFF>")
    assert last - first == 255
    for i in range(first, last + 1):
        assert isinstance(tokenizer.decode([i]), str)
    assert tokenizer.decode(tokenizer.encode("\u4f60")) == "\u4f60"
    for bad in (-1, -first, len(tokenizer), 2**31, -2**63, 2**64):
        with pytest.raises(ValueError, match="within the vocabulary"):
            tokenizer.decode([first, bad])
        with pytest.raises(ValueError, match="within the vocabulary"):
            tokenizer.tokens([bad])


@pytest.mark.parametrize("bad", [13, -1, 2**31, 2**63, -2**63])
def test_one_bad_id_in_a_batch(bad):
    """It is named, and the model works on as if nothing had been."""
    model = rtfast.Transformer(small_config(), random_values(small_config()))
    expected = model.generate([[3, 4], [5, 6]], 3)
    for batch in ([[3, 4], [5, bad]], [[3, 4], [bad]], [[bad, 3, 4]], [[3], [4]] * 100 + [[bad]]):
        for call in (lambda ids: model.generate(ids, 3), model.encode, lambda ids: model.logits(ids, ids)):
            with pytest.raises((ValueError, TypeError), match=r"\[\d+\]"):
                call(batch)
    assert model.generate([[3, 4], [5, 6]], 3) == expected


#: Reads a SentencePiece model cut short anywhere, then with any of its bits flipped, and uses what loads.
DAMAGE = """if True:
    import sys
    sys.path.insert(0, {fuzz!r})
    from harnesses.tokenizer_files import SentencePieceModel
    harness = SentencePieceModel({folder!r})
    content = harness.made()[{which}]
    loaded = refused = 0
    def read(data):
        global loaded, refused
        try:
            harness.run(data)
            loaded += 1
        except ValueError:
            refused += 1
    for length in range(len(content)):
        read(content[:length])
    for place in range(0, len(content)):
        for bit in range(place % {step}, 8, {step}):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            read(bytes(flipped))
    print(loaded, refused)"""


@needs_harnesses
@pytest.mark.parametrize("which, step", [(0, 1), (6, 4)], ids=["pieces", "normalization rules"])
def test_damaged_sentencepiece_models(tmp_path, which, step):
    """In a process of its own: what reads the file is C++."""
    pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: no models of it to read")
    done = python(DAMAGE.format(fuzz=str(FUZZ), folder=str(tmp_path), which=which, step=step))
    assert done.returncode == 0, done.stderr[-2000:]
    loaded, refused = map(int, done.stdout.split())
    assert loaded > 100 and refused > 100


@needs_harnesses
@pytest.mark.parametrize("name", ["unigram", "bpe", "bpe.json", "unigram.json", "wordpiece.json", "words.json"])
def test_repeated_characters(tools, tmp_path, name):
    """Four times the characters take about four times as long, not sixteen."""
    _, files = tools
    json_file = name.endswith(".json")
    package = pytest.importorskip("tokenizers" if json_file else "sentencepiece", reason="not installed")
    assert package
    data = (FUZZ / "corpus" / "tokenizer_json" / name).read_bytes() if json_file else files.trained(model_type=name)
    (tmp_path / ("tokenizer.json" if json_file else "spiece.model")).write_bytes(data)
    tokenizer = rtfast.subwords.tokenizer_of(str(tmp_path), {"model_type": "bart" if json_file else "t5"})

    def seconds(n):
        times = []
        for _ in range(3):
            begun = time.process_time()
            tokenizer.encode("h" * n)
            times.append(time.process_time() - begun)
        return min(times)

    assert seconds(200_000) < 10 * seconds(50_000) + 0.05


def test_a_tokenizer_with_a_word_more_than_the_model(folder, tmp_path):
    """Its special token is one past the embedding: the id is refused, not read."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: no tokenizer.json to read")
    words = {f"w{i}": i for i in range(12)} | {"<unk>": 12}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<end>"])  # id 13 of a vocabulary of 13
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "subwords": "bart"}))
    model = rtfast.load(folder)
    assert len(model.translate("w3 w4", 3)) > 0
    with pytest.raises(ValueError, match=r"src\[1\] is 13, outside the vocabulary of 13 words"):
        model.translate("w3 <end>", 3)


# Paths and code

@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no such device here")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "generation_config.json", "tokenizer.json",
                                  "tokenizer_config.json", "model.safetensors.index.json"])
def test_links_to_what_is_no_file(folder, name):
    """A device without an end, a folder: named, and not waited for."""
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: no tokenizer.json to read")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "subwords": "bart"}))
    if name == "model.safetensors.index.json":  # read for Hugging Face's families, where there is no whole file
        (folder / "config.json").write_text('{"model_type": "marian"}')
        os.remove(folder / "model.safetensors")
    if name == "tokenizer_config.json":
        (folder / "tokenizer.json").write_text("{}")
    for target in ("/dev/zero", str(folder)):
        (folder / name).unlink(missing_ok=True)
        os.symlink(target, folder / name)
        with pytest.raises(CheckpointError, match=f"{re.escape(name)}: must be a regular file"):
            rtfast.load(folder)


def test_chat_templates_are_not_looked_at(folder):
    """A template that would run code if it was rendered."""
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: no tokenizer.json to read")
    template = "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    (folder / "chat_template.jinja").write_text(template)
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "model": {"type": "WordLevel", "vocab": {**{f"w{i}": i for i in range(12)}, "<unk>": 12},
                                    "unk_token": "<unk>"}}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "subwords": "bart"}))
    code = f"""if True:
        import sys, rtfast
        model = rtfast.load({str(folder)!r})
        model.translate("w3", 2)
        print("jinja2" in sys.modules)"""
    assert printed(code) == ["False"]


def test_nothing_imports_pickle():
    """Nor another way to make objects of bytes, in any file of the package."""
    package = pathlib.Path(rtfast.__file__).parent
    sources = list(package.rglob("*.py"))
    assert len(sources) > 50
    wrong = re.compile(r"\b(?:import|from) +(?:pickle|marshal|shelve|dill|joblib|yaml|jinja2)\b|allow_pickle=True"
                       r"|(?<![\w.])(?:eval|exec)\(|\bnp\.load\((?!path, allow_pickle=False)|torch\.load\((?!\{)")
    for path in sources:
        found = wrong.search(path.read_text(encoding="utf-8"))
        assert found is None, (path, found)


#: Loads a folder twice, and prints the second time's audit events: what was opened, and the others' names.
LISTEN = """if True:
    import sys, rtfast
    def use():
        model = rtfast.load({folder!r})
        model.generate([3, 4], 3)
    use()  # modules that are imported late are there now
    events = []
    sys.addaudithook(lambda event, arguments: events is None or events.append((event, arguments)))
    use()
    seen, events = events, None
    for event, arguments in seen:
        print(event, str(arguments[0]).replace(" ", "_") if event == "open" else "-")"""


@needs_harnesses
def test_what_a_hugging_face_folder_does_to_the_system(tools, tmp_path):
    """As the cache lays it out, snapshots of links to blobs: reads there, and nothing else."""
    base, _ = tools
    text = (FUZZ / "corpus" / "families" / "marian.json").read_bytes()
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "1").write_bytes(text)
    base.write_tensors(blobs / "2", base.family_tensors(json.loads(text)))
    for blob, name in (("1", "config.json"), ("2", "model.safetensors")):
        os.symlink(f"../../blobs/{blob}", snapshot / name)
    words = printed(LISTEN.format(folder=str(snapshot)))
    events = list(zip(words[::2], words[1::2], strict=True))
    opened = {path for event, path in events if event == "open"}
    assert opened == {str(snapshot / "config.json"), str(snapshot / "model.safetensors")}
    assert {event for event, _ in events} <= {"open", "os.listdir", "object.__getattr__", "object.__setattr__",
                                              "object.__delattr__", "sys._getframe"}
