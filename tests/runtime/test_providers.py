"""Only providers that can run here are chosen; the others say why not, in one line."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from pgc_graph.errors import OptionError, ProviderError
from pgc_graph.runtime.providers import PROVIDERS, choose_provider, unusable_reason

WITHOUT_CUDA = pytest.mark.skipif(not unusable_reason("cuda"), reason="CUDA works here")


def test_the_cpu_always_works() -> None:
    assert unusable_reason("cpu") == ""
    assert choose_provider("cpu") == "cpu"


def test_auto_takes_cuda_only_where_it_works() -> None:
    assert choose_provider("auto") == choose_provider() == ("cpu" if unusable_reason("cuda") else "cuda")


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if name != "cpu"])
def test_an_explicit_provider_runs_or_says_why_not(provider: str) -> None:
    reason = unusable_reason(provider)
    if not reason:
        assert choose_provider(provider) == provider
        return
    with pytest.raises(ProviderError, match=f"provider {provider} cannot run here: ") as caught:
        choose_provider(provider)
    assert reason in str(caught.value)
    assert "--provider cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gpu", "CPU", "", "CPUExecutionProvider"])
def test_an_unknown_provider_is_an_option_error(name: str) -> None:
    with pytest.raises(OptionError, match="expected auto, cpu, cuda, tensorrt"):
        choose_provider(name)


@WITHOUT_CUDA
@pytest.mark.parametrize("provider", ["auto", "cuda", "tensorrt"])
def test_probing_prints_nothing(provider: str, run_python: Callable[..., CompletedProcess[str]]) -> None:
    code = (
        "from pgc_graph.errors import ProviderError\n"
        "from pgc_graph.runtime.providers import choose_provider\n"
        f"try: print(choose_provider({provider!r}))\n"
        "except ProviderError: print('refused')\n"
    )
    result = run_python("-c", code)
    assert (result.stdout, result.stderr) == ("cpu\n" if provider == "auto" else "refused\n", "")


def test_the_device_that_is_there_runs_a_model() -> None:
    import numpy as np
    import onnx

    from pgc_graph.runtime.session import RuntimeOptions, open_session

    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[n, 4] y) { y = Neg(x) }'
    for provider in (name for name in PROVIDERS if not unusable_reason(name)):
        session = open_session(onnx.parser.parse_model(text).SerializeToString(), RuntimeOptions(provider))
        assert session.provider == provider
        assert session.run({"x": np.ones((2, 4), np.float32)})[0].sum() == -8
