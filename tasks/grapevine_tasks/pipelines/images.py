"""Steps on images [h, w] or [c, h, w]: channels-first, add-channel, grey, resize, crop, pad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grapevine_proto.errors import TaskError
from grapevine_tasks.pipelines.steps import Argument, Arguments, Array, Form, Step, need_float, shown, spec, whole

_SIDE = Argument(low=1, high=4096, is_whole=True)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: how bright red, green and blue are
_AT_ONCE = 2**22  # numbers that are resized at a time


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
    red, green, blue = (x[:, k] * _GREY[k] for k in range(3))
    return (red + green + blue)[:, None], y


def _resize_form(form: Form, arguments: Arguments) -> Form:
    need_float("resize", form.features)
    _image("resize", form)
    return _sized(form, arguments)


def _sized(form: Form, arguments: Arguments) -> Form:
    shape = (*form.features.shape[:-2], whole(arguments, "height"), whole(arguments, "width"))
    return replace(form, features=spec(form.features, shape))


def _resize(x: Array, y: Array | None, form: Form, arguments: Arguments) -> tuple[Array, Array | None]:
    h, w = _image("resize", form)
    rows, columns = _weights(h, whole(arguments, "height")), _weights(w, whole(arguments, "width"))
    resized = np.empty((*x.shape[:-2], len(rows), len(columns)), np.float32)
    at_once = max(1, _AT_ONCE // max(1, x[:1].size, resized[:1].size))
    for start in range(0, len(x), at_once):
        part = slice(start, start + at_once)
        resized[part] = rows @ (x[part] @ columns.T)
    return resized, y


def _weights(old: int, new: int) -> Array:
    """Float32 [new, old]: how much of each old pixel is in a new one; rows sum to 1.

    A line that grows is interpolated between the centres of its pixels; one that shrinks is averaged
    over what each new pixel covers.
    """
    if new < old:
        edges = np.arange(new + 1) * (old / new)
        pixels = np.arange(old)
        covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        weights = np.clip(covered, 0, None)
        shares: Array = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        return shares
    centres = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    left = np.floor(centres).astype(int)
    right = np.minimum(left + 1, old - 1)
    weights = np.zeros((new, old))
    np.add.at(weights, (np.arange(new), left), 1 - (centres - left))
    np.add.at(weights, (np.arange(new), right), centres - left)
    return weights.astype(np.float32)


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
    "add-channel": Step(summary="images [h, w] to [1, h, w]", form=_add_channel_form, apply=_add_channel),
    "grey": Step(
        summary="images [3, h, w] to [1, h, w]: 0.299 red + 0.587 green + 0.114 blue", form=_grey_form, apply=_grey
    ),
    "resize": Step(
        summary="images [h, w] or [c, h, w] to `height` × `width`: interpolated where they grow (bilinear), "
        "averaged over areas where they shrink",
        arguments={"height": _SIDE, "width": _SIDE},
        form=_resize_form,
        apply=_resize,
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
