"""For test_typing.py: mypy must find that every backend, compiled or not, has what `rtfast.typing.Backend` says."""

import rtfast._avx2
import rtfast._avx512
import rtfast._baseline
import rtfast._neon
import rtfast.reference
from rtfast.typing import Backend

avx512: Backend = rtfast._avx512
avx2: Backend = rtfast._avx2
neon: Backend = rtfast._neon
baseline: Backend = rtfast._baseline
python: Backend = rtfast.reference
