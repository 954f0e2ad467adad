"""Arrays of other libraries are read where they lie, and refused with a reason where they cannot be."""

import array
import tracemalloc

import numpy as np
import pytest
from cases import both_dtypes, normal
from models import small_config

import rtfast
from rtfast import inputs, kernels
from rtfast.foreign_arrays import as_array


class Interface:
    """Nothing but __array_interface__."""

    def __init__(self, values):
        self.values = values

    @property
    def __array_interface__(self):
        return self.values.__array_interface__


class Convertible:
    """Nothing but __array__."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


class DLPack:
    """Nothing but __dlpack__, on a device of that kind."""

    def __init__(self, values, kind=1):
        self.values, self.kind = values, kind

    def __dlpack__(self, **options):
        assert self.kind == 1, "a device other than the CPU was asked for its memory"
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return (self.kind, 0)


def torch_tensor(values):
    return pytest.importorskip("torch").from_numpy(values)


def arrow_array(values):
    return pytest.importorskip("pyarrow").array(values)  # on the same memory


MAKERS = {"memoryview": memoryview, "interface": Interface, "array": Convertible, "dlpack": DLPack,
          "torch": torch_tensor}
every_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def address(values):
    return values.__array_interface__["data"][0]


@every_kind
@both_dtypes
def test_it_is_read_where_it_lies(make, dtype):
    values = normal((4, 6), dtype)
    assert address(as_array(make(values))) == address(values)


@every_kind
@both_dtypes
def test_every_kernel_takes_it(backend, make, dtype):
    x, w, y, vector = normal((6, 6), dtype), normal((6, 6), dtype, 1), normal((6, 6), dtype, 2), normal(6, dtype, 3)
    q, k, v, mask = normal((2, 3, 4), dtype), normal((2, 5, 4), dtype, 1), normal((2, 5, 4), dtype, 2), np.tri(3, 5) > 0
    for kernel, operands in (
            (kernels.matmul, (x, w)), (kernels.linear, (x, w, vector)), (kernels.softmax, (x,)),
            (kernels.layer_norm, (x, vector, vector)), (kernels.add_layer_norm, (x, y, vector)),
            (kernels.attention, (q, k, v, mask)), (kernels.argmax, (x,)), (kernels.exp, (x,)),
            (kernels.embedding, (np.array([[1, 2], [5, 0]]), x))):
        expected = kernel(*operands)
        assert kernel(*map(make, operands)).tobytes() == expected.tobytes(), kernel
        assert kernel(make(operands[0]), *operands[1:]).tobytes() == expected.tobytes(), kernel  # beside ndarrays
    assert kernels.linear(x, kernels.pack(make(w))).tobytes() == kernels.linear(x, w).tobytes()


@every_kind
def test_no_copy_is_made(backend, make):
    """A copy would show: the array is larger than all else that the call takes."""
    values = np.zeros((4096, 512), np.float32)
    given = make(values)
    kernels.embedding([1], given)
    tracemalloc.start()
    try:
        kernels.embedding([1], given)  # not argmax: before 2.0 NumPy copies for it what may not be written
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < values.nbytes // 2


def test_arrays_of_the_standard_library(backend):
    x = array.array("d", [1, 2, 3])
    assert kernels.softmax(x).tolist() == kernels.softmax(np.array(x)).tolist()
    assert address(as_array(x)) == x.buffer_info()[0]
    with pytest.raises(TypeError, match="softmax: x must be float32 or float64, got int32"):
        kernels.softmax(array.array("i", [1, 2, 3]))


def test_arrow_arrays(backend):
    values = normal(1000, np.float32)
    given = arrow_array(values)
    assert address(as_array(given)) == given.buffers()[1].address
    assert kernels.softmax(given).tobytes() == kernels.softmax(values).tobytes()
    ids = arrow_array(np.array([2, 0, 1]))
    assert kernels.embedding(ids, np.eye(3)).tolist() == np.eye(3)[[2, 0, 1]].tolist()


@pytest.mark.parametrize("make", [*MAKERS.values(), arrow_array], ids=[*MAKERS, "arrow"])
def test_ids_of_a_model(make):
    model = rtfast.Transformer.random(rtfast.Config.article())
    ids = np.array([0, 2])
    expected = model.encode(ids)
    for dtype in (np.int64, np.int32):
        assert model.encode(make(ids.astype(dtype))).tobytes() == expected.tobytes()
    assert model.encode([make(ids), make(ids[:1].copy())])[0].tobytes() == expected.tobytes()
    if make is not arrow_array:  # which has one dimension
        assert model.encode(make(ids[None])).tobytes() == expected.tobytes()


def test_weights_of_a_model():
    model = rtfast.Transformer.random(rtfast.Config.article())
    again = rtfast.Transformer(model.config, {name: DLPack(values.copy()) for name, values in model.weights.items()})
    assert again.encode([0, 2]).tobytes() == model.encode([0, 2]).tobytes()


def test_strides_are_fine(backend):
    values = normal((6, 8), np.float64)
    expected = kernels.softmax(np.ascontiguousarray(values.T))
    for given in (memoryview(values.T), Interface(values.T), DLPack(values.T)):
        assert kernels.softmax(given).tobytes() == expected.tobytes()
    assert kernels.softmax(torch_tensor(values).T).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", [2, 10])
def test_memory_of_another_device(backend, kind):
    x, ids = DLPack(np.zeros((2, 3)), kind), DLPack(np.zeros(2, int), kind)
    where = rf"got DLPack: it lies on DLPack device {kind}, not in the CPU's memory \(device 1\)"
    with pytest.raises(TypeError, match=f"softmax: x must be an array of float32 or float64 in .* memory, {where}"):
        kernels.softmax(x)
    with pytest.raises(TypeError, match="embedding: ids must be integers in the CPU's memory, " + where):
        kernels.embedding(ids, np.zeros((2, 3)))
    with pytest.raises(TypeError, match="attention: mask must be boolean and in the CPU's memory, " + where):
        kernels.attention(*np.zeros((3, 1, 2, 2)), mask=x)
    model = rtfast.Transformer.random(rtfast.Config.article())
    with pytest.raises(TypeError, match="ids must hold integer ids in the CPU's memory, " + where):
        model.encode(ids)
    with pytest.raises(TypeError, match="must be an array in the CPU's memory, " + where):
        rtfast.Transformer(model.config, {name: DLPack(values, kind) for name, values in model.weights.items()})


def test_tensors_that_numpy_cannot_read(backend):
    torch = pytest.importorskip("torch")
    x = torch.zeros(2, 3)
    for tensor, given, reason in (
            (x.bfloat16(), "Tensor of dtype torch.bfloat16, device cpu", "BFloat16"),
            (x.to("meta"), "Tensor of dtype torch.float32, device meta", "meta device"),
            (x.to_sparse(), "Tensor of dtype torch.float32, device cpu", "to_dense"),
            (x.clone().requires_grad_(), "Tensor of dtype torch.float32, device cpu", r"tensor\.detach\(\)")):
        with pytest.raises(TypeError, match="softmax: x must be an array of float32 or float64 in the CPU's memory, "
                                            f"got {given}: .*{reason}"):
            kernels.softmax(tensor)
    with pytest.raises(TypeError, match=r"softmax: x must be float32 or float64, got float16; convert with x\.astype"):
        kernels.softmax(x.half())
    wanting = torch.ones(3, requires_grad=True)
    for call, message in (
            (lambda: kernels.softmax([wanting]), "softmax: x must hold real numbers in the CPU's memory"),
            (lambda: kernels.embedding([wanting], np.eye(3)), "embedding: ids must be integers in the CPU's memory"),
            (lambda: kernels.attention(np.eye(3), np.eye(3), np.eye(3), [wanting]), "attention: mask must be boolean")):
        with pytest.raises(TypeError, match=message + r".*, got list: .*tensor\.detach\(\)"):
            call()


def test_masked_elements_are_refused(backend):
    """What lies under a mask is no number of the caller's."""
    x, hidden = normal((3, 3), np.float32), np.eye(3) > 0
    masked, ids = np.ma.array(x, mask=hidden), np.ma.array([1, 2], mask=[1, 0])
    for call, message in (
            (lambda: kernels.softmax(masked), "softmax: x must be an array .*, got MaskedArray .*masked"),
            (lambda: kernels.linear(x, masked), "linear: weight must be an array .*masked"),
            (lambda: kernels.embedding(ids, x), "embedding: ids must be integers .*masked"),
            (lambda: kernels.attention(x, x, x, np.ma.array(hidden, mask=hidden)), "attention: mask must be .*masked")):
        with pytest.raises(TypeError, match=message):
            call()
    assert kernels.softmax(np.ma.array(x)).tobytes() == kernels.softmax(x).tobytes()
    assert kernels.softmax(masked.filled(0)).tobytes() == kernels.softmax(np.where(hidden, np.float32(0), x)).tobytes()


def test_a_list_that_is_also_an_array_is_copied():
    """What the caller may still write to is not what a model reads later, as `stream` does."""
    class Both(list):
        def __array__(self, dtype=None, copy=None):
            return memory

    memory = np.array([3, 4, 5])
    batch = inputs.read_source(Both(memory), "src", small_config(), None)
    assert batch.sentences[0].tolist() == [3, 4, 5]
    assert not np.shares_memory(batch.sentences[0], memory)
