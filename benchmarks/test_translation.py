"""Whole translations of a Marian-sized model against CTranslate2 and transformers: speed, loading, memory.

The same random weights and ids for all, 40 tokens forced of each target; ids are compared first.
"""

import json
import pathlib
import statistics
import subprocess
import sys

import marian_model
import pytest

import rtfast

torch = pytest.importorskip("torch", reason="PyTorch makes the checkpoint")
transformers = pytest.importorskip("transformers", reason="transformers makes the checkpoint")
ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is the peer")

#: Of each target; and sentences after which a process is as fast as it gets.
TOKENS, SOME_SENTENCES = 40, 10
#: Multiply-adds of one source token in the encoder and the cross-attention's memory, and of one target token.
SOURCE_WORK = 6 * (4 * 512**2 + 2 * 512 * 2048) + 6 * 2 * 512**2
LOGITS = 512 * marian_model.WORDS
TARGET_WORK = 6 * (6 * 512**2 + 2 * 512 * 2048) + LOGITS

CASES = {
    "batch 1, greedy": (1, 20, 1), "batch 1, beam 4": (1, 20, 4), "batch 32, greedy": (32, 20, 1),
    "batch 32, beam 4": (32, 20, 4), "batch 256, lengths 5 to 100, greedy": (256, (5, 100), 1),
}


@pytest.fixture(scope="session")
def marian(tmp_path_factory):
    """(folder, transformers' model)."""
    transformers.logging.set_verbosity_error()
    folder = tmp_path_factory.mktemp("marian")
    return folder, marian_model.make(folder)


@pytest.mark.parametrize("case", CASES)
def test_translation(measure, threads, marian, case):
    folder, model = marian
    n, lengths, beams = CASES[case]
    rows = marian_model.sources(n, lengths)
    words = [marian_model.words(row) for row in rows]
    peer = ctranslate2.Translator(str(folder / "ct2"), device="cpu", compute_type="float32", intra_threads=threads,
                                  inter_threads=1)
    ours = rtfast.load(folder / "hf")

    def translate():
        return ours.generate(rows, num_beams=beams, min_new_tokens=TOKENS, max_new_tokens=TOKENS)

    def ctranslate():
        found = peer.translate_batch(words, beam_size=beams, min_decoding_length=TOKENS, max_decoding_length=TOKENS,
                                     max_batch_size=64)
        return [marian_model.ids_of(result.hypotheses[0]) for result in found]

    expected, found = ctranslate(), translate()
    for _ in range(SOME_SENTENCES // n):  # what a process of many sentences does faster
        translate()
    same = sum(a == b for a, b in zip(expected, found, strict=True))
    assert same >= 0.9 * n, f"only {same} of {n} sentences are CTranslate2's"
    others = {"CTranslate2": ctranslate}
    if n <= 32 and not (n == 32 and beams > 1):
        longest = max(map(len, rows))
        ids = torch.tensor([row + [marian_model.PAD] * (longest - len(row)) for row in rows])

        def transform():
            with torch.inference_mode():
                return model.generate(ids, attention_mask=(ids != marian_model.PAD).long(), num_beams=beams,
                                      min_new_tokens=TOKENS, max_new_tokens=TOKENS)

        same_too = sum(a == b for a, b in zip(transform()[:, 1:].tolist(), found, strict=True))
        assert same_too >= 0.9 * n, f"only {same_too} of {n} sentences are transformers'"
        others["transformers"] = transform
    tokens = n * beams * TOKENS
    # Greedy search, where it can, screens the logits: their weight is read as bytes, in no multiply-adds of float32.
    in_bytes = LOGITS if beams == 1 and ours._screening is not None else 0
    weights = (4 * (TARGET_WORK - in_bytes) + in_bytes) * TOKENS * -(-n // 64) + 4 * SOURCE_WORK
    row = measure("translation", case, translate, others, threads=threads, rounds=3,
                  flops=2 * (tokens * (TARGET_WORK - in_bytes) + sum(map(len, rows)) * SOURCE_WORK), bytes=weights)
    if "transformers" in others:
        row["ratio_transformers"] = row["peers"]["transformers"] / row["seconds"]
    rate = n * TOKENS
    print(f"{case}, {threads} threads: {rate / row['seconds']:.0f} tokens/s, same ids {same} of {n}, " + ", ".join(
        f"{name} {rate / seconds:.0f} ({seconds / row['seconds']:.2f}x)" for name, seconds in row["peers"].items()))


#: What a process prints: seconds from its start of loading to the first token, and its peak memory in MB after one
#: sentence and after some more.
PROCESSES = {
    "rtfast": """
import rtfast
rtfast.set_num_threads(1)
start = time.perf_counter()
model = rtfast.load({folder!r} + "/hf")
model.generate({ids}, num_beams=1, max_new_tokens=1)
seconds = time.perf_counter() - start
for n in (1, {some}):
    for _ in range(n):
        model.generate({ids}, num_beams=1, max_new_tokens=40, min_new_tokens=40)
    note()""",
    "CTranslate2": """
sys.modules["torch"] = None  # it imports torch where it is installed, for nothing that is needed here
import ctranslate2
start = time.perf_counter()
model = ctranslate2.Translator({folder!r} + "/ct2", device="cpu", compute_type="float32", intra_threads=1)
model.translate_batch([{words}], beam_size=1, max_decoding_length=1)
seconds = time.perf_counter() - start
for n in (1, {some}):
    for _ in range(n):
        model.translate_batch([{words}], beam_size=1, max_decoding_length=40, min_decoding_length=40)
    note()""",
}
NOTE = """
def note():
    status = dict(line.split(':') for line in open('/proc/self/status'))
    peaks.append(int(status['VmHWM'].split()[0]) / 1024)"""


@pytest.fixture(scope="session")
def processes(marian):
    """Of seven processes each: seconds to the first token, MB at most after a sentence and after some; by name.

    Each right after one that does not count, which warms the disk's cache; and memory: a virtual machine may give free
    pages back to its host soon, and huge ones then take ten times as long to get.
    """
    folder, _ = marian
    (ids,) = marian_model.sources(1, 20)
    found = {name: [] for name in PROCESSES}
    root = str(pathlib.Path(rtfast.__file__).parents[1])
    for _ in range(7):
        for name, work in PROCESSES.items():
            code = (f"import json, sys, time\nsys.path.insert(0, {root!r})\npeaks = []" + NOTE
                    + work.format(folder=str(folder), ids=ids, words=marian_model.words(ids), some=SOME_SENTENCES)
                    + "\nprint(json.dumps([seconds, *peaks]))")
            for _ in range(2):
                out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            found[name].append(json.loads(out))
    return found


@pytest.mark.parametrize("i, what", [
    (0, "seconds to load, to the first token"), (1, "peak memory in MB, batch 1"),
    (2, f"peak memory in MB after {SOME_SENTENCES + 1} sentences")])
def test_loading_and_memory(record, processes, i, what):
    typical = {name: statistics.median(row[i] for row in rows) for name, rows in processes.items()}
    ratios = sorted(theirs[i] / mine[i] for mine, theirs in zip(*processes.values(), strict=True))
    record("translation", what, seconds=typical["rtfast"], peer="CTranslate2", peer_seconds=typical["CTranslate2"],
           ratio=typical["CTranslate2"] / typical["rtfast"], ratio_low=ratios[1], ratio_high=ratios[-2],
           **({"unit": "MB"} if i > 0 else {}))
    print(what, typical)
