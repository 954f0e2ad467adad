"""What the benchmarks compare with, at its best: must be imported before NumPy.

OpenBLAS chooses its kernels when it loads; a machine may pin it to slower ones.
"""

import os

for _pinned in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_pinned, None)

import numpy as np  # noqa: E402
from threadpoolctl import threadpool_info, threadpool_limits  # noqa: E402

import rtfast  # noqa: E402

try:
    import torch
    torch.set_grad_enabled(False)
except ImportError:
    torch = None


def set_threads(n):
    """The same number of threads for everybody."""
    rtfast.set_num_threads(n)
    threadpool_limits(n)
    if torch is not None:
        torch.set_num_threads(n)


def blas():
    """What NumPy multiplies with."""
    found = [f"{i['internal_api']} {i['version']} ({i.get('architecture', '?')} kernels)"
             for i in threadpool_info() if i["user_api"] == "blas"]
    return ", ".join(found) or "unknown BLAS"


def versions():
    """The peers in one line."""
    line = f"NumPy {np.__version__} on {blas()}"
    if torch is not None:
        line += f"; torch {torch.__version__}"
    return line


def aligned(shape, dtype=np.float32):
    """An empty array on a cache line, as a model's own buffers are; everybody works on such."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start:start + size].view(dtype).reshape(shape)


def normal(shape, seed=0):
    """Standard-normal float32 numbers on a cache line."""
    out = aligned(shape)
    out[...] = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return out


def matmul_peers(x, weight):
    """name -> function for x @ weight: NumPy, and torch on MKL and on oneDNN where it is installed."""
    out = aligned((len(x), weight.shape[1]))
    peers = {"NumPy": lambda: np.matmul(x, weight, out=out)}
    if torch is not None:
        left, right = torch.from_numpy(x), torch.from_numpy(weight)
        result = torch.from_numpy(aligned(out.shape))
        peers["torch MKL"] = lambda: torch.mm(left, right, out=result)
        left_mkldnn, packed = left.to_mkldnn(), torch.from_numpy(np.ascontiguousarray(weight.T)).to_mkldnn()
        peers["torch oneDNN"] = lambda: torch._C._nn.mkldnn_linear(left_mkldnn, packed)
    return peers
