"""The engine in plain Python over NumPy: the specification, and the fallback where nothing compiled runs.

kernels.py has the kernels, executor.py runs programs with them, direct.py is a quick way in; together they
are the backend "python".
"""

from .direct import *  # noqa: F403
from .executor import Executor as Executor
from .kernels import *  # noqa: F403  every kernel, by kernels.__all__
