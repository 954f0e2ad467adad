"""The engine in plain Python over NumPy: the specification, and the fallback where nothing compiled runs.

kernels.py has the kernels, executor.py runs programs with them, direct.py is a quick way in; together they
are the backend "python".
"""

from .direct import *  # noqa: F403
from .direct import __all__ as _direct
from .executor import Executor
from .kernels import *  # noqa: F403  every kernel, by kernels.__all__
from .kernels import __all__ as _kernels

__all__ = [*_kernels, *_direct, "Executor"]
