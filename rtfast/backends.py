"""Which build of the kernels runs: the only module that chooses.

A backend is a module with the functions of `rtfast.reference`, the specification: `_avx512`,
`_avx2`, `_neon` and `_baseline` are one set of Cython sources compiled per instruction set,
`python` is NumPy. The fastest one that this CPU can
run is taken at import; the environment variable RTFAST_BACKEND overrides it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import sys
import warnings
from typing import TYPE_CHECKING, Any, cast

from rtfast.user_lines import users_level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rtfast.typing import Backend, MaybeNone

#: Every backend by name, the fastest first: its module and the CPU features it needs.
BACKENDS = {
    "avx512": ("rtfast._avx512", ("AVX512F", "AVX512CD", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX2", "FMA3", "F16C")),
    "avx2": ("rtfast._avx2", ("AVX2", "FMA3", "F16C")),
    "neon": ("rtfast._neon", ("ASIMD",)),
    "baseline": ("rtfast._baseline", ("SSE42", "POPCNT") if platform.machine().lower() in ("x86_64", "amd64") else ()),
    "python": ("rtfast.reference", ()),
}

_modules: dict[str, Backend] = {}
_active: str | MaybeNone = None
_setting: Callable[[Backend], object] | None = None  # what every module is told when it is loaded


def cpu_features() -> dict[str, bool]:
    """The features of this CPU that NumPy's run-time detection reports: `{name: bool}`."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__
    except ImportError:  # NumPy < 2
        from numpy.core._multiarray_umath import __cpu_features__
    return dict(__cpu_features__)


def missing_features(name: str) -> list[str]:
    """Names of the CPU features that backend `name` needs and this CPU lacks."""
    features = cpu_features()
    return [f for f in BACKENDS[name][1] if not features.get(f, False)]


def load(name: str) -> Backend:
    """The module of backend `name`.

    Raises ValueError for an unknown name, RuntimeError where this CPU cannot run it,
    ImportError where this installation was built without it.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    if name not in _modules:
        lacking = missing_features(name)
        if lacking:
            raise RuntimeError(f"backend {name!r} needs {', '.join(lacking)}, which this CPU lacks")
        try:
            _modules[name] = cast("Backend", importlib.import_module(BACKENDS[name][0]))  # its stub says so
        except ImportError as error:
            raise ImportError(f"backend {name!r} is not part of this installation ({error})") from error
        if _setting is not None:
            _setting(_modules[name])
    return _modules[name]


def available() -> list[str]:
    """Names of the backends that load on this machine, the fastest first."""
    names = []
    for name in BACKENDS:
        with contextlib.suppress(ImportError, RuntimeError):
            load(name)
            names.append(name)
    return names


def active() -> Backend:
    """The module of the backend in use."""
    return _modules[_active]


def backend() -> str:
    """Name of the backend in use: 'avx512', 'avx2', 'neon', 'baseline' or 'python'."""
    return _active


def on_load(setting: Callable[[Backend], object]) -> None:
    """Call setting(module) for every backend: now for those that are loaded, else when they are."""
    global _setting
    _setting = setting
    for module in list(_modules.values()):  # another thread may load one
        setting(module)


@contextlib.contextmanager
def using(name: str) -> Iterator[Backend]:
    """Run the body on backend `name`: for comparing backends. Not for several threads at once.

    A model keeps the backend it was made with.
    """
    global _active
    load(name)
    before, _active = _active, name
    try:
        yield active()
    finally:
        _active = before


def _in_sub_interpreter() -> bool:
    interpreters: Any = None
    with contextlib.suppress(ImportError):
        interpreters = __import__("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
    return interpreters is not None and bool(interpreters.get_current() != interpreters.get_main())


def _choose() -> str:
    if _in_sub_interpreter():
        raise ImportError("rtfast does not run in a sub-interpreter: NumPy and the compiled kernels keep one state for "
                          "the whole process; import it in the main interpreter (mod_wsgi: WSGIApplicationGroup "
                          "%{GLOBAL})")
    asked = os.environ.get("RTFAST_BACKEND", "").strip().lower()
    if asked:
        try:
            load(asked)
        except (ValueError, RuntimeError, ImportError) as error:
            raise type(error)(f"RTFAST_BACKEND={asked}: {error}") from None
        return asked
    for name in BACKENDS:
        with contextlib.suppress(ImportError, RuntimeError):
            load(name)
            break
    if name == "python":
        warnings.warn(
            f"rtfast runs on its pure-Python fallback: {NO_COMPILED_BUILD}",
            RuntimeWarning, stacklevel=users_level())
    return name


NO_COMPILED_BUILD = (
    f"no compiled build for {platform.machine()} is installed. For the fast one, install a C compiler "
    "(Debian: apt install gcc python3-dev; macOS: xcode-select --install; Windows: Visual Studio's C++ tools with its "
    "component clang-cl) and run "
    "'pip install --force-reinstall --no-cache-dir --no-binary rtfast rtfast', or 'pip install .' in a clone."
)

_active = _choose()
