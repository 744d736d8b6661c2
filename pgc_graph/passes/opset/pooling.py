"""Pooling (ONNX operator pages).

MaxPool, AveragePool  10   `ceil_mode` rounds the size of the result up
AveragePool            7   `count_include_pad`; before, it was not said whether padding counts
RoiAlign              16   the default moved the region by half a pixel
"""

from __future__ import annotations

from collections.abc import Sequence

from pgc_graph.passes.opset.site import CannotConvertError, Site

__all__ = ["average_pool_7_up", "pool_10_down", "roi_align_down", "roi_align_up"]

_NO_OFFSET = "output_half_pixel"


def pool_10_down(site: Site) -> str:
    """Drop ceil_mode, with more padding at the end where a window is left over.

    Padding at the end is nothing to a maximum, and to a mean that does not count it.
    """
    if not site.attribute("ceil_mode", 0):
        return ""
    kernel: Sequence[int] = site.attribute("kernel_shape")
    padding = site.attribute("auto_pad", "NOTSET")
    if not padding.startswith("SAME"):  # which rounds up in either mode
        pads = [int(pad) for pad in site.attribute("pads", ())] if padding == "NOTSET" else []
        before, after = pads[: len(kernel)] or [0] * len(kernel), pads[len(kernel) :] or [0] * len(kernel)
        rest = [_rest(site, axis, before[axis] + after[axis], before[axis]) for axis in range(len(kernel))]
        if any(rest):
            if site.attribute("count_include_pad", 0) and any((*before, *after)):
                raise CannotConvertError("ceil_mode = 1 rounds the size up, and padding counts", "pad by a Pad node")
            _pad_more(site, before, [pad + more for pad, more in zip(after, rest, strict=True)])
    site.drop_attribute("ceil_mode")
    return "ceil_mode dropped, padded where a window is left over"


def _rest(site: Site, axis: int, pads: int, before: int) -> int:
    """Return how many pixels the last window lacks; 0 if there is no window left over."""
    size = site.dims()[2 + axis]
    if size is None:
        raise CannotConvertError("ceil_mode = 1 and the size is open", "fix the input's shape")
    stride = int(site.attribute("strides", [1] * (axis + 1))[axis])
    span = int(site.attribute("dilations", [1] * (axis + 1))[axis]) * (site.attribute("kernel_shape")[axis] - 1) + 1
    last = -(-(size + pads - span) // stride) * stride
    # A window that would start behind the image does not count (onnxruntime, torch).
    return 0 if last >= size + before else max(0, last + span - size - pads)


def _pad_more(site: Site, before: list[int], after: list[int]) -> None:
    kernel: Sequence[int] = site.attribute("kernel_shape")
    if any(pad >= size for pad, size in zip(after, kernel, strict=True)):
        raise CannotConvertError("ceil_mode = 1 rounds the size up by more than the kernel", "pad by a Pad node")
    site.drop_attribute("auto_pad")
    site.drop_attribute("count_include_pad")
    site.set_attribute("pads", [*before, *after])


def average_pool_7_up(site: Site) -> str:
    """Let nodes pass that do not pad."""
    if any(site.attribute("pads", ())) or str(site.attribute("auto_pad", "NOTSET")).startswith("SAME"):
        raise CannotConvertError("before opset 7 it is not said whether padding counts", "pad by a Pad node")
    return ""


def roi_align_up(site: Site) -> str:
    """State that regions are not moved."""
    site.set_attribute("coordinate_transformation_mode", _NO_OFFSET)
    return "no offset, stated"


def roi_align_down(site: Site) -> str:
    """Let nodes pass that do not move regions."""
    if site.attribute("coordinate_transformation_mode", "half_pixel") != _NO_OFFSET:
        raise CannotConvertError("it moves regions by half a pixel", "subtract half a pixel from the regions")
    site.drop_attribute("coordinate_transformation_mode")
    return "its mode is the only one"
