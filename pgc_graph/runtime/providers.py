"""Which execution providers can really run here.

A GPU build of onnxruntime lists CUDA and TensorRT as available on every machine and prints errors when asked to use
them without a driver, so they are probed before onnxruntime hears of them.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

from pgc_graph.errors import OptionError, ProviderError

__all__ = ["PROVIDERS", "choose_provider", "runtime_version", "unusable_reason"]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Names on our command line, and onnxruntime's."""

_PROVIDER_LIBRARIES = {"cuda": "onnxruntime_providers_cuda", "tensorrt": "onnxruntime_providers_tensorrt"}


def choose_provider(requested: str = "auto") -> str:
    """Return the provider to use: `cpu`, `cuda` or `tensorrt`.

    Args:
        requested: One of them, or `auto`: CUDA where it works, else the CPU. (TensorRT compiles an engine for minutes
            before it runs, so it has to be asked for.)

    Raises:
        OptionError: No such provider.
        ProviderError: The requested provider cannot run on this machine.
    """
    if requested == "auto":
        return "cpu" if unusable_reason("cuda") else "cuda"
    if requested not in PROVIDERS:
        raise OptionError(f"unknown provider {requested!r}; expected auto, {', '.join(PROVIDERS)}")
    reason = unusable_reason(requested)
    if reason:
        raise ProviderError(f"provider {requested} cannot run here: {reason}; use --provider cpu or auto")
    return requested


def runtime_version() -> str:
    """Return the version of onnxruntime."""
    import onnxruntime

    return str(onnxruntime.__version__)


@functools.cache
def unusable_reason(provider: str) -> str:
    """Say why a provider cannot run here, or return an empty string if it can."""
    import onnxruntime

    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        return f"this build of onnxruntime ({onnxruntime.__version__}) does not contain it"
    if provider == "cpu":
        return ""
    return _driver_reason() or _library_reason(provider)


def _driver_reason() -> str:
    # CUDA driver API: cuInit and cuDeviceGetCount return 0 (CUDA_SUCCESS) where a device can be used.
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return f"no NVIDIA driver ({name} is missing)"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the NVIDIA driver finds no device"
    return ""


def _library_reason(provider: str) -> str:
    import onnxruntime

    # CUDA and cuDNN may come as wheels that only onnxruntime knows how to find.
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        preload()
    folder = Path(onnxruntime.__file__).parent / "capi"
    pattern = "{}.dll" if sys.platform == "win32" else "lib{}.so"
    try:
        ctypes.CDLL(str(folder / pattern.format("onnxruntime_providers_shared")), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / pattern.format(_PROVIDER_LIBRARIES[provider])))
    except OSError as error:
        return f"a library is missing ({error})"
    return ""
