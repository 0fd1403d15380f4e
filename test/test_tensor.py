"""ai3.Tensor, and arrays of other libraries at the border."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import ai3
from ai3 import layers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (5,), (), (0, 3)])
def test_every_view_is_the_same_memory(dtype: str, shape: tuple[int, ...]) -> None:
    given = np.random.default_rng(0).random(shape).astype(dtype)
    tensor = ai3.Tensor(given)
    assert (tensor.shape, tensor.dtype) == (shape, dtype)
    view = memoryview(tensor)
    assert (view.shape, view.format, view.contiguous) == (shape, given.dtype.char, True)
    assert not view.readonly
    for array in (tensor.numpy(), np.asarray(tensor), np.from_dlpack(tensor)):
        np.testing.assert_array_equal(array, given)
    assert torch.equal(tensor.torch(), torch.from_numpy(given))
    assert torch.equal(torch.from_dlpack(tensor), torch.from_numpy(given))
    if given.size:
        tensor.numpy().reshape(-1)[0] = 7
        assert tensor.torch().reshape(-1)[0] == 7
        assert memoryview(tensor).cast("B").cast(given.dtype.char)[0] == 7


def test_memory_outlives_the_tensor() -> None:
    array, view = (lambda t: (t.numpy(), memoryview(t)))(ai3.Tensor(np.arange(1000.0)))
    np.testing.assert_array_equal(array, np.arange(1000.0))
    assert view[999] == 999


def test_copies_what_it_is_made_from() -> None:
    given = torch.arange(6.0).reshape(2, 3).t()
    tensor = ai3.Tensor(given)
    given.zero_()
    np.testing.assert_array_equal(tensor.numpy(), [[0, 3], [1, 4], [2, 5]])


def test_to() -> None:
    tensor = ai3.Tensor(np.ones((2, 2), np.float32))
    assert tensor.to(ai3.Tensor) is tensor
    assert isinstance(tensor.to(np.ndarray), np.ndarray)
    assert isinstance(tensor.to(torch.Tensor), torch.Tensor)
    assert isinstance(tensor.to(memoryview), memoryview)
    with pytest.raises(TypeError, match=r"can become a torch\.Tensor.* not <class 'list'>"):
        tensor.to(list)


def test_copy_and_pickle() -> None:
    tensor = ai3.Tensor(np.arange(4.0))
    for other in (copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))):
        np.testing.assert_array_equal(other.numpy(), tensor.numpy())
        other.numpy()[0] = 5
        assert tensor.numpy()[0] == 0


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, np.float16),
        np.zeros(3, np.int16),
        torch.zeros(3, dtype=torch.float16),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(3, dtype=torch.int8),
        torch.zeros(3).to_sparse(),
        torch.zeros(3, device="meta"),
        "text",
        None,
        [1.0, 2.0],
    ],
    ids=lambda array: str(getattr(array, "dtype", array)),
)
def test_what_is_no_such_array(array: Any) -> None:
    with pytest.raises((TypeError, BufferError, RuntimeError)):
        ai3.Tensor(array)
    with pytest.raises((TypeError, BufferError, RuntimeError)):
        layers.ReLU()(array)


class DLPackOnly:
    """An array of a library that the core has never heard of."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def test_layers_give_back_the_type_that_they_were_given() -> None:
    x = torch.randn(3, 4)
    expected = torch.relu(x)
    layer = layers.ReLU()
    assert torch.equal(layer(x), expected)
    assert isinstance(layer(x.numpy()), np.ndarray)
    np.testing.assert_array_equal(layer(x.numpy()), expected)
    np.testing.assert_array_equal(layer(ai3.Tensor(x)).numpy(), expected)
    np.testing.assert_array_equal(layer(DLPackOnly(x)).numpy(), expected)
    np.testing.assert_array_equal(layer(memoryview(x.numpy())).numpy(), expected)
    readonly = x.numpy().copy()
    readonly.flags.writeable = False
    np.testing.assert_array_equal(layer(readonly), expected)


def test_a_tensor_that_requires_grad_can_be_read() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    assert torch.equal(layers.ReLU()(x), torch.relu(x.detach()))


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool],
    ids=str,
)
def test_every_dtype_goes_in_and_out(dtype: torch.dtype) -> None:
    x = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    tensor = ai3.Tensor(x)
    assert tensor.dtype == str(dtype).removeprefix("torch.")
    assert torch.equal(tensor.torch(), x)
    assert tensor.torch().dtype == dtype
    np.testing.assert_array_equal(tensor.numpy(), x.numpy())
    assert tensor.numpy().dtype == x.numpy().dtype
    assert memoryview(tensor).tolist() == x.tolist()
    if not dtype.is_floating_point:
        with pytest.raises(TypeError, match=r"relu: the input .* must be float32, "):
            layers.ReLU()(x)
