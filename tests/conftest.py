import gc

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile(
    "erasejax",
    deadline=None,  # the first draw of a shape compiles
    max_examples=20,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
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
