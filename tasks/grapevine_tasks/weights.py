"""Weights as safetensors bytes, named by their SHA-256, and as the vectors that are trained."""

from __future__ import annotations

import hashlib

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from grapevine_proto.errors import TaskError
from grapevine_proto.manifest import WeightsRef
from grapevine_tasks.layout import ModelLayout


def sha256(content: bytes) -> str:
    """64 lower-case hex digits."""
    return hashlib.sha256(content).hexdigest()


def reference_to(content: bytes) -> WeightsRef:
    """The name by which these weights are fetched."""
    return WeightsRef(digest=sha256(content), num_bytes=len(content))


def encode_weights(layout: ModelLayout, parameters: NDArray[np.float32], buffers: NDArray[np.float32]) -> bytes:
    """A safetensors file of the parameters (float32 [p]) and buffers (float32 [b]); the same vectors, the same bytes.

    Raises TaskError when a vector's length is not the layout's.
    """
    named = layout.split(parameters, buffers)
    # order="C" and not ascontiguousarray, which gives a tensor without dimensions one.
    return safetensors.numpy.save({name: np.asarray(tensor, order="C") for name, tensor in named.items()})


def decode_weights(layout: ModelLayout, content: bytes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The parameters (float32 [p]) and buffers (float32 [b]) in a safetensors file.

    Raises TaskError unless it holds exactly the layout's tensors, in float32, all finite and with
    no negative variance.
    """
    try:
        named = safetensors.numpy.load(content)
    # Beside its own error it lets a KeyError out for dtypes that numpy lacks, and the like.
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise TaskError(f"not a safetensors file: {error}; fetch the weights again") from error
    for name, tensor in named.items():
        if tensor.dtype != np.float32:
            raise TaskError(f"the tensor {name!r} is {tensor.dtype}, expected float32")
    parameters, buffers = layout.join(named)
    check_finite(layout, parameters, buffers)
    return parameters, buffers


def load_initial(
    layout: ModelLayout, content: bytes, reference: WeightsRef
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`decode_weights`, once the bytes have the digest and the size that the manifest names."""
    if len(content) != reference.num_bytes or sha256(content) != reference.digest:
        raise TaskError(f"these are not the weights {reference.digest[:12]}…: fetch them again, from somebody else")
    return decode_weights(layout, content)


def check_finite(layout: ModelLayout, parameters: NDArray[np.float32], buffers: NDArray[np.float32]) -> None:
    """Raise TaskError, naming the tensor, unless all numbers are finite and no variance is negative."""
    for name, tensor in layout.split(parameters, buffers).items():
        if not np.isfinite(tensor).all():
            raise TaskError(f"the tensor {name!r} holds numbers that are not finite")
    for entry in layout.buffers:
        if entry.nonnegative and (buffers[entry.span] < 0).any():
            raise TaskError(f"the variance {entry.name!r} holds negative numbers")
