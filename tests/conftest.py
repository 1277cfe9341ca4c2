import gc

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile(
    "erasejax",
    deadline=None,  # the first draw of a shape compiles
    max_examples=20,
    derandomize=True,  # a red run is a change; --hypothesis-profile wide draws more, and afresh
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "wide", hypothesis.settings.get_profile("erasejax"), max_examples=200, derandomize=False
)
hypothesis.settings.load_profile("erasejax")


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Drops what a module compiled.

    Every program holds hundreds of memory maps, of which Linux grants a process 65,530; the
    compiler crashes where there are no more.
    """
    yield
    jax.clear_caches()
    gc.collect()
