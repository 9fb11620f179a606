"""Steps on images [h, w] or [c, h, w]: channels-first, add-channel, grey, resize, crop, pad."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from grapevine_proto.errors import TaskError
from grapevine_tasks.pipelines.steps import (
    AT_ONCE,
    BYTES,
    MAX_ELEMENTS,
    Argument,
    Arguments,
    Array,
    Form,
    Stack,
    Step,
    need_float,
    per_span,
    shown,
    spans,
    spec,
    whole,
)

_LONGEST = 4096  # pixels of a side that is resized, before and after: the weights are a matrix of both
_SIDE = Argument(low=1, high=_LONGEST, is_whole=True)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: how bright red, green and blue are
_RESIZED_AT_ONCE = 2**20  # numbers


def _image(name: str, form: Form) -> tuple[int, int]:
    """Height and width. Raises TaskError when samples are no images."""
    if len(form.features.shape) not in (2, 3) or form.is_windowed:
        raise TaskError(f"the step {name} takes images [h, w] or [c, h, w], not {shown(form.features)}: leave it out")
    return form.features.shape[-2], form.features.shape[-1]


def _channels_first_form(form: Form, arguments: Arguments) -> Form:  # noqa: ARG001 — one signature for all steps
    if len(form.features.shape) != 3 or form.is_windowed:
        raise TaskError(f"the step channels-first takes images [h, w, c], not {shown(form.features)}: leave it out")
    h, w, c = form.features.shape
    return replace(form, features=spec(form.features, (c, h, w)))


def _channels_first(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:  # noqa: ARG001
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)), y


def _add_channel_form(form: Form, arguments: Arguments) -> Form:  # noqa: ARG001
    if len(form.features.shape) != 2 or form.is_windowed:
        raise TaskError(f"the step add-channel takes images [h, w], not {shown(form.features)}: leave it out")
    return replace(form, features=spec(form.features, (1, *form.features.shape)))


def _add_channel(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:  # noqa: ARG001
    return x[:, None], y


def _grey_form(form: Form, arguments: Arguments) -> Form:  # noqa: ARG001
    need_float("grey", form.features)
    shape = form.features.shape
    if len(shape) != 3 or shape[0] != 3 or form.is_windowed:
        raise TaskError(
            f"the step grey takes images [3, h, w] of red, green and blue, not {shown(form.features)}: "
            "put channels-first before it, or leave it out"
        )
    return replace(form, features=spec(form.features, (1, *shape[1:])))


def _grey(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:  # noqa: ARG001
    mixed = np.empty((len(x), 1, *x.shape[2:]), np.float32)
    for span in spans(len(x), math.prod(form.features.shape)):
        red, green, blue = (x[span, k] * _GREY[k] for k in range(3))
        mixed[span, 0] = red + green + blue
    return mixed, y


def _grey_workspace(before: Stack, after: Stack, arguments: Arguments) -> int:  # noqa: ARG001
    """Three colours and their sums, of some images."""
    return 2 * BYTES["float32"] * before.x_at_once()


def _resize_form(form: Form, arguments: Arguments) -> Form:
    need_float("resize", form.features)
    h, w = _image("resize", form)
    if max(h, w) > _LONGEST:
        raise TaskError(f"the step resize takes sides of up to {_LONGEST} pixels, not {h} × {w}: put crop before it")
    if (between := math.prod(form.features.shape[:-1]) * whole(arguments, "width")) > MAX_ELEMENTS:
        raise TaskError(
            f"the step resize makes {between} numbers of an image of {h} × {w} on its way; write a width with which "
            f"it is {MAX_ELEMENTS} or fewer"
        )
    return _sized(form, arguments)


def _sized(form: Form, arguments: Arguments) -> Form:
    shape = (*form.features.shape[:-2], whole(arguments, "height"), whole(arguments, "width"))
    return replace(form, features=spec(form.features, shape))


def _resize(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:
    h, w = _image("resize", form)
    rows, columns = _weights(h, whole(arguments, "height")), _weights(w, whole(arguments, "width"))
    resized = np.empty((*x.shape[:-2], len(rows), len(columns)), np.float32)
    for span in spans(len(x), _largest_image(form, resized.shape[1:]), _RESIZED_AT_ONCE):
        resized[span] = rows @ (x[span] @ columns.T)
    return resized, y


def _largest_image(form: Form, after: tuple[int, ...]) -> int:
    """The numbers of one image before, between (its lines resized) and after."""
    before = form.features.shape
    return max(math.prod(before), math.prod(before[:-1]) * after[-1], math.prod(after))


def _resize_workspace(before: Stack, after: Stack, arguments: Arguments) -> int:  # noqa: ARG001
    """Some images between and after, beside the weights of both directions and what they are made with."""
    old, new = before.form.features.shape, after.form.features.shape
    images = min(before.num, per_span(_largest_image(before.form, new), _RESIZED_AT_ONCE))
    numbers = images * (math.prod(old[:-1]) * new[-1] + math.prod(new))
    sides = [old[-2] * new[-2], old[-1] * new[-1]]
    making = max(min(side, max(AT_ONCE, length)) for side, length in zip(sides, old[-2:], strict=True))
    return BYTES["float32"] * (numbers + sum(sides)) + 40 * making


def _weights(old: int, new: int) -> Array:
    """Float32 [new, old]: how much of each old pixel is in a new one; rows sum to 1.

    A line that grows is interpolated between the centres of its pixels; one that shrinks is averaged
    over what each new pixel covers.
    """
    weights = np.zeros((new, old), np.float32)
    if new < old:
        edges = np.arange(new + 1) * (old / new)
        pixels = np.arange(old)
        for span in spans(new, old):
            ends, starts = edges[1:][span, None], edges[:-1][span, None]
            covered = np.clip(np.minimum(ends, pixels + 1) - np.maximum(starts, pixels), 0, None)
            weights[span] = covered / covered.sum(1, keepdims=True)
        return weights
    centres = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    left = np.floor(centres).astype(int)
    right = np.minimum(left + 1, old - 1)
    shares = centres - left
    for span in spans(new, old):
        mixed = np.zeros((span.stop - span.start, old))
        lines = np.arange(len(mixed))
        np.add.at(mixed, (lines, left[span]), 1 - shares[span])
        np.add.at(mixed, (lines, right[span]), shares[span])
        weights[span] = mixed
    return weights


def _crop_form(form: Form, arguments: Arguments) -> Form:
    h, w = _image("crop", form)
    if whole(arguments, "height") > h or whole(arguments, "width") > w:
        raise TaskError(
            f"the step crop cannot take {whole(arguments, 'height')} × {whole(arguments, 'width')} "
            f"out of {h} × {w}: write less, or use pad"
        )
    return _sized(form, arguments)


def _crop(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:
    h, w = _image("crop", form)
    height, width = whole(arguments, "height"), whole(arguments, "width")
    top, left = (h - height) // 2, (w - width) // 2
    return np.ascontiguousarray(x[..., top : top + height, left : left + width]), y


def _pad_form(form: Form, arguments: Arguments) -> Form:
    need_float("pad", form.features)
    h, w = _image("pad", form)
    if whole(arguments, "height") < h or whole(arguments, "width") < w:
        raise TaskError(
            f"the step pad cannot make {whole(arguments, 'height')} × {whole(arguments, 'width')} "
            f"of {h} × {w}: write more, or use crop"
        )
    return _sized(form, arguments)


def _pad(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:
    h, w = _image("pad", form)
    height, width = whole(arguments, "height"), whole(arguments, "width")
    top, left = (height - h) // 2, (width - w) // 2
    padded = np.full((*x.shape[:-2], height, width), np.float32(arguments["value"][0]))
    padded[..., top : top + h, left : left + w] = x
    return padded, y


IMAGE_STEPS = {
    "channels-first": Step(summary="images [h, w, c] to [c, h, w]", form=_channels_first_form, apply=_channels_first),
    "add-channel": Step(
        summary="images [h, w] to [1, h, w]", form=_add_channel_form, apply=_add_channel, makes_x="view"
    ),
    "grey": Step(
        summary="images [3, h, w] to [1, h, w]: 0.299 red + 0.587 green + 0.114 blue",
        form=_grey_form,
        apply=_grey,
        workspace=_grey_workspace,
    ),
    "resize": Step(
        summary="images [h, w] or [c, h, w] to `height` × `width`: interpolated where they grow (bilinear), "
        "averaged over areas where they shrink",
        arguments={"height": _SIDE, "width": _SIDE},
        form=_resize_form,
        apply=_resize,
        workspace=_resize_workspace,
    ),
    "crop": Step(
        summary="the middle `height` × `width` of images",
        arguments={"height": _SIDE, "width": _SIDE},
        form=_crop_form,
        apply=_crop,
    ),
    "pad": Step(
        summary="images in the middle of `height` × `width`, with `value` around them",
        arguments={"height": _SIDE, "width": _SIDE, "value": Argument(low=-1e9, high=1e9, default=(0.0,))},
        form=_pad_form,
        apply=_pad,
    ),
}
