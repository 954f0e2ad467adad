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
try:
    import onnx  # noqa: F401  makes the graph that it runs
    import onnxruntime
except ImportError:
    onnxruntime = None


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
    """The peers and what they run on: name -> version."""
    found = {"NumPy": f"{np.__version__} on {blas()}"}
    if torch is not None:
        mkldnn = "oneDNN" if torch.backends.mkldnn.is_available() else "no oneDNN"
        mkl = "MKL" if torch.backends.mkl.is_available() else "no MKL"
        found["torch"] = f"{torch.__version__} with {mkl}, {mkldnn}, {torch.backends.cpu.get_cpu_capability()}"
    if onnxruntime is not None:
        found["ONNX Runtime"] = onnxruntime.__version__
    return found


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


def linear(x, weight, bias=None, activation=None):
    """name -> function for activation(x @ weight + bias), x of two axes: NumPy (without activation), and torch
    on MKL and on oneDNN."""
    found, out = {}, aligned((len(x), weight.shape[1]))

    def numpy_linear():
        np.matmul(x, weight, out=out)
        if bias is not None:
            np.add(out, bias, out=out)

    if activation is None:
        found["NumPy"] = numpy_linear
    if torch is None:
        return found
    after = torch_activation(activation)
    left, right = torch.from_numpy(x), torch.from_numpy(weight)
    transposed, result = torch.from_numpy(np.ascontiguousarray(weight.T)), torch.from_numpy(aligned(out.shape))
    add = None if bias is None else torch.from_numpy(bias)
    if add is None:
        found["torch MKL"] = lambda: after(torch.mm(left, right, out=result))
    else:
        found["torch MKL"] = lambda: after(torch.addmm(add, left, right, out=result))
    functional = torch.nn.functional.linear
    found["torch linear"] = lambda: after(functional(left, transposed, add))
    packed_left, packed = left.to_mkldnn(), transposed.to_mkldnn()
    packed_add = None if add is None else add.to_mkldnn()
    multiply = torch._C._nn.mkldnn_linear
    if activation is None:
        found["torch oneDNN"] = lambda: multiply(packed_left, packed, packed_add)
    else:
        found["torch oneDNN"] = lambda: after(multiply(packed_left, packed, packed_add).to_dense())
    return found


def torch_activation(name):
    """torch's activation by our name, in place where it has that."""
    functional = torch.nn.functional
    return {None: lambda x: x, "relu": functional.relu_, "gelu": functional.gelu,
            "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
            "silu": lambda x: functional.silu(x, inplace=True)}[name]


def matmul(a, b):
    """name -> function for a @ b, plain arrays of any number of axes."""
    out = aligned((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))
    found = {"NumPy": lambda: np.matmul(a, b, out=out)}
    if torch is not None:
        left, right, result = torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(aligned(out.shape))
        found["torch MKL"] = lambda: torch.matmul(left, right, out=result)
        if a.ndim == b.ndim == 2:
            opaque_left, opaque_right = left.to_mkldnn(), right.T.contiguous().to_mkldnn()
            found["torch oneDNN"] = lambda: torch._C._nn.mkldnn_linear(opaque_left, opaque_right)
    return found
