"""Which backend runs: the environment's choice, the fastest otherwise, Python where nothing is compiled."""

import platform
import sys
import types
import warnings

import numpy as np
import pytest
from cases import assert_same_bits
from models import FUSED, large_config, ragged_ids, random_ids, random_values, small_config
from subprocesses import printed, python

import rtfast
from rtfast import backends, reference

NAMES = ("avx512", "avx2", "neon", "baseline", "python")


# The environment's choice

@pytest.mark.parametrize("name", backends.available())
def test_the_environment_chooses(name):
    code = """if True:
        import models, rtfast
        model = rtfast.Transformer(models.small_config(), models.random_values(models.small_config()))
        print(rtfast.backend(), model.backend, model.encode([3, 4, 5]).shape)"""
    assert printed(code, RTFAST_BACKEND=name) == [name, name, "(3,", "12)"]
    assert printed("import rtfast; print(rtfast.backend())", RTFAST_BACKEND=f" {name.upper()} ") == [name]


def test_the_fastest_is_taken_without_a_choice():
    for nothing in ("", "  "):
        chosen = printed("import rtfast; print(rtfast.backend())", RTFAST_BACKEND=nothing)
        assert chosen == [backends.available()[0]]


def last_line(process):
    return process.stderr.strip().splitlines()[-1]


def test_an_unknown_choice_is_an_error():
    process = python("import rtfast", RTFAST_BACKEND="avx1024")
    assert process.returncode == 1
    assert last_line(process) == (
        "ValueError: RTFAST_BACKEND=avx1024: backend must be one of avx512, avx2, neon, baseline, python, "
        "got 'avx1024'")


def test_a_choice_that_is_not_installed_is_an_error():
    hide = "import sys; sys.modules['rtfast._avx2'] = None; sys.modules['rtfast._neon'] = None\n"
    name = "avx2" if not backends.missing_features("avx2") else "neon"
    process = python(hide + "import rtfast", RTFAST_BACKEND=name)
    assert process.returncode == 1
    assert last_line(process).startswith(("ImportError", "ModuleNotFoundError"))
    assert f"RTFAST_BACKEND={name}: backend '{name}' is not part of this installation" in last_line(process)


def test_a_choice_that_the_processor_lacks_is_an_error(monkeypatch):
    imaginary = {"avx1024": ("rtfast._avx1024", ("AVX1024F",))}
    monkeypatch.setattr(backends, "BACKENDS", {**backends.BACKENDS, **imaginary})
    monkeypatch.setenv("RTFAST_BACKEND", "avx1024")
    with pytest.raises(RuntimeError) as error:
        backends._choose()
    assert str(error.value) == (
        "RTFAST_BACKEND=avx1024: backend 'avx1024' needs AVX1024F, which this CPU lacks")
    with pytest.raises(RuntimeError, match="'avx1024' needs AVX1024F"):
        backends.load("avx1024")
    assert "avx1024" not in backends.available()


# The fastest that this processor can run

@pytest.fixture
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(backends, "_modules", {})
    monkeypatch.delenv("RTFAST_BACKEND", raising=False)


def lacking(monkeypatch, *features):
    everything = dict.fromkeys((f for _, needed in backends.BACKENDS.values() for f in needed), True)
    monkeypatch.setattr(backends, "cpu_features", lambda: {**everything, **dict.fromkeys(features, False)})


def importing(monkeypatch, import_module):
    """Let backends.py, and nothing else, import modules in this way."""
    monkeypatch.setattr(backends, "importlib", types.SimpleNamespace(import_module=import_module))


@pytest.mark.parametrize("features, expected", [
    ((), "avx512"), (("AVX512F",), "avx2"), (("AVX512VL",), "avx2"), (("AVX512BW",), "avx2"),
    (("AVX2",), "neon"), (("FMA3",), "neon"), (("AVX2", "ASIMD"), "baseline")])
def test_features_decide(nothing_loaded, monkeypatch, features, expected):
    lacking(monkeypatch, *features)
    importing(monkeypatch, lambda name: reference)
    assert backends._choose() == expected


def test_what_is_not_installed_is_passed_over(nothing_loaded, monkeypatch):
    def import_module(name):
        if name.startswith("rtfast._"):
            raise ImportError(f"no module named {name}")
        return reference

    lacking(monkeypatch)
    importing(monkeypatch, import_module)
    with pytest.warns(RuntimeWarning, match="pure-Python fallback") as caught:
        assert backends._choose() == "python"
    assert len(caught) == 1
    assert backends.available() == ["python"]


def test_features_that_numpy_does_not_know_count_as_lacking(monkeypatch):
    monkeypatch.setattr(backends, "cpu_features", dict)
    assert backends.missing_features("avx2") == ["AVX2", "FMA3", "F16C"]
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    assert backends.missing_features("baseline") == (["SSE42", "POPCNT"] if x86 else [])
    assert backends.missing_features("python") == []


def test_the_list_of_backends():
    assert tuple(backends.BACKENDS) == NAMES
    assert set(backends.available()) <= set(NAMES) and "python" in backends.available()
    assert rtfast.backend() in backends.available()


def test_modules_that_the_documentation_names_are_there_from_the_start():
    assert printed("import rtfast; print(len(rtfast.weights.weight_shapes(rtfast.Config.article())) > 100)") == ["True"]
    assert printed("import rtfast; print('Array' in dir(rtfast.typing), 'weights' in dir(rtfast))") == ["True", "True"]


# Without compiled modules

COMPILED_MODULES = tuple(module for module, _ in backends.BACKENDS.values() if module.startswith("rtfast._"))

NO_COMPILED = f"""if True:
    import sys, warnings
    class Nothing:
        def find_spec(self, name, path=None, target=None):
            if name in {COMPILED_MODULES}:
                raise ImportError("not in this installation: " + name)
    sys.meta_path.insert(0, Nothing())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import rtfast
    """


def test_without_compiled_modules_python_runs_with_one_warning():
    words = printed(NO_COMPILED + """
    model = rtfast.Transformer.random(rtfast.Config.article(), vocabulary=rtfast.article.VOCABULARY)
    print(rtfast.backend(), len(caught), caught[0].category.__name__, model.encode("hello world").shape)
    print(caught[0].filename, caught[0].lineno)
    print(caught[0].message)""", RTFAST_BACKEND="")
    assert words[:5] == ["python", "1", "RuntimeWarning", "(2,", "4)"]
    assert words[5:7] == ["<string>", "10"]  # where it is imported
    message = " ".join(words[7:])
    assert message.startswith("rtfast runs on its pure-Python fallback: no compiled build for")
    for help in ("install a C compiler", "gcc",
                 "pip install --force-reinstall --no-cache-dir --no-binary rtfast rtfast"):
        assert help in message


def test_asking_for_python_is_no_reason_to_warn():
    done = python("import rtfast; print(rtfast.backend())", "-W", "error", RTFAST_BACKEND="python")
    assert done.returncode == 0 and done.stdout.split() == ["python"] and not done.stderr
    assert printed(NO_COMPILED + "\n    print(len(caught))", RTFAST_BACKEND="python") == ["0"]


def test_the_compiled_backends_import_without_a_warning():
    done = python("import rtfast", "-W", "error", RTFAST_BACKEND=backends.available()[0])
    assert done.returncode == 0 and not done.stderr


# Using one for a while

def test_using_another_and_back():
    before = rtfast.backend()
    for name in backends.available():
        with backends.using(name) as module:
            assert rtfast.backend() == name and module is backends.active()
            with pytest.raises(ZeroDivisionError), backends.using("python"):
                raise ZeroDivisionError
            assert rtfast.backend() == name
    assert rtfast.backend() == before
    with pytest.raises(ValueError, match="backend must be one of"), backends.using("nothing"):
        pass
    assert rtfast.backend() == before


def test_a_model_keeps_the_backend_it_was_made_with(backend):
    config = small_config()
    model = rtfast.Transformer(config, random_values(config))
    expected = model.encode([3, 4, 5]), model.generate([3, 4], 5)
    for name in backends.available():
        with backends.using(name):
            assert model.backend == backend
            assert_same_bits(model.encode([3, 4, 5]), expected[0])
            assert model.generate([3, 4], 5) == expected[1]


# The same bits on AVX2 and AVX-512, of whole models

MODELS = {
    "small": small_config(), "large": large_config(),
    "odd": small_config(d_model=7, n_heads=3, d_key=5, d_value=3),
    "gelu, biases, tied": small_config(activation="gelu", attention_bias=True, tie_embeddings=True),
    "silu, wide": small_config(activation="silu", d_model=67, n_heads=1, d_ff=301),
    "gelu_tanh, article's": small_config(
        activation="gelu_tanh", article_layer_norm=True, article_softmax=True),
}


@pytest.mark.skipif(len([name for name in backends.available() if name in FUSED]) < 2,
                    reason="needs two builds with a fused multiply-add")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())
def test_every_vector_width_gives_the_same_bits(config, dtype):
    config = type(config)(**{**config.to_dict(), "dtype": dtype})
    weights, results = random_values(config), []
    sources, targets = ragged_ids(config, (1, 7, 39, 16)), ragged_ids(config, (5, 33, 1, 16), seed=9)
    for name in [name for name in backends.available() if name in FUSED]:
        with backends.using(name):
            model = rtfast.Transformer(config, weights)
        trace = model.trace(sources[1], targets[1])
        results.append([*model.encode(sources), *model.logits(sources, targets),
                        *map(np.array, model.generate(sources, 12)), *trace.values()])
    for other in results[1:]:
        for i, (one, expected) in enumerate(zip(other, results[0], strict=True)):
            assert_same_bits(one, expected, i)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())
def test_every_backend_gives_the_same_to_rounding(config, dtype, tolerance):
    config = type(config)(**{**config.to_dict(), "dtype": dtype})
    weights, results = random_values(config), {}
    source, target = random_ids(config, 30), random_ids(config, 20, seed=1)
    for name in backends.available():
        with backends.using(name):
            results[name] = rtfast.Transformer(config, weights).logits(source, target)
    for name, logits in results.items():
        error = np.abs(logits - results["python"]).max()
        assert error <= tolerance * np.abs(results["python"]).max(), name


# Import

def test_import_is_light():
    code = """if True:
        import sys, numpy
        before = set(sys.modules)
        import rtfast
        print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))"""
    loaded = set(printed(code))
    heavy = {"torch", "tensorflow", "transformers", "tokenizers", "safetensors", "scipy", "Cython",
             "argparse", "json", "asyncio", "multiprocessing", "concurrent", "subprocess", "email", "http",
             "ssl", "unittest", "setuptools"}
    assert not loaded & heavy
    others = loaded - set(sys.stdlib_module_names) - {"_xxsubinterpreters", "_interpreters"}  # parts of Python, too
    assert {name for name in others if "cython" not in name} == {"rtfast"}


def test_importing_starts_no_thread_and_changes_no_floating_point_mode():
    code = """if True:
        import os, numpy
        denormal = numpy.float64(5e-324)
        def count(): return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
        before = count()
        import rtfast
        print(count() - before, denormal * 1 > 0, numpy.float32(1e-40) * numpy.float32(1) > 0)"""
    assert printed(code) == ["0", "True", "True"]


def test_no_warning_of_numpy_escapes(backend):
    """Overflow and NaN go the way of IEEE 754; what a model has to say about them, it says itself."""
    config = small_config(norm=False, residual=False)
    weights = {name: values * np.float32(1e12) for name, values in random_values(config).items()}
    model = rtfast.Transformer(config, weights)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        states = model.encode([3, 4, 5])
    assert np.isnan(states).any()
    assert len(caught) == 1 and str(caught[0].message).startswith("the result is NaN")
