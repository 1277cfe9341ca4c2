"""What both estimators share: parameters inside parameters, what was fitted, and in which digits.

What is fitted is kept as numpy arrays and computed in the digits of the rows: float32 in float32,
and float64, which scikit-learn makes of all other numbers, in float64 whether or not JAX keeps 64
bits elsewhere.
"""

import contextlib
import dataclasses
import numbers
import tempfile
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from erasejax._core.foreign import wide
from erasejax._core.status import Status, describe
from erasejax._core.warn import warn
from erasejax.erasers import Eraser
from erasejax.files import load, save
from erasejax.probes import Probe

__all__ = ["FLOATS", "Estimator", "digits"]

FLOATS = (np.float64, np.float32)  # what rows become that are neither is the first


class Estimator(BaseEstimator):
    """An estimator with a frozen configuration among its parameters, and what that has fitted.

    The fields of the configuration are parameters, too: `method__shrinkage`, `probe__l2`, and those
    of a configuration inside it, `method__probe__l2`. Setting one sets a changed copy.
    """

    random_state: Any
    _fitted: Any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the parameters by name.

        Args:
          deep: whether the fields of configurations are among them.
        """
        own = super().get_params(deep=False)
        inner = [_fields(name, value) for name, value in own.items()] if deep else []
        return {name: value for found in (own, *inner) for name, value in found.items()}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters by the names that `get_params` gives them.

        Args:
          **params: values; fields are set after the configurations that they are of.

        Raises:
          ValueError: there is no such parameter.
        """
        super().set_params(**{path: value for path, value in params.items() if "__" not in path})
        for path in sorted(path for path in params if "__" in path):
            known = self.get_params()
            if path not in known:
                raise ValueError(
                    f"Invalid parameter {path!r} for estimator {type(self).__name__}; valid "
                    f"parameters are {', '.join(known)}"
                )
            name, _, rest = path.partition("__")
            setattr(self, name, _changed(known[name], rest, params[path]))
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        if "_fitted" in state:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "fitted.safetensors")
                save(state["_fitted"], path)
                state["_fitted"] = path.read_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_fitted" in state:
            with tempfile.TemporaryDirectory() as folder, wide():
                path = Path(folder, "fitted.safetensors")
                path.write_bytes(state["_fitted"])
                state = {**state, "_fitted": jax.tree.map(np.asarray, load(path))}
        vars(self).update(state)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def _rows(self, X: Any) -> np.ndarray:
        """Returns rows that are to be transformed or scored.

        Raises:
          NotFittedError: nothing is fitted.
          ValueError: they are not like those of the fit.
        """
        check_is_fitted(self)
        rows: Any = validate_data(self, X, reset=False, dtype=FLOATS)
        return rows

    def _here(self) -> Any:
        """Returns what was fitted as JAX arrays, in the digits that JAX keeps here.

        Raises:
          NotFittedError: nothing is.
        """
        check_is_fitted(self)
        return jax.tree.map(jnp.asarray, self._fitted)

    def _keep(self, fitted: Any) -> None:
        """Keeps what was fitted, and says what its status warns of."""
        self._fitted = jax.tree.map(np.asarray, fitted)
        status = Status(int(self._fitted.status))
        category = ConvergenceWarning if Status.NOT_CONVERGED in status else UserWarning
        for text in describe(status):
            warn(text.removeprefix("warning: "), category)

    def _key(self, config: Eraser | Probe) -> jax.Array | None:
        """Returns the key of a fit that draws, else None."""
        if not config.needs_key:
            return None
        seed = self.random_state
        if not isinstance(seed, numbers.Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        return jax.random.key(int(seed))


def digits(x: np.ndarray) -> contextlib.AbstractContextManager[object]:
    """Returns the context in which JAX keeps the digits of x."""
    return wide() if x.dtype == np.float64 else contextlib.nullcontext()


def _fields(name: str, value: Any) -> dict[str, Any]:
    """Returns the fields of a configuration, and of those inside it, by the path to them."""
    found: dict[str, Any] = {}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            path, inner = f"{name}__{field.name}", getattr(value, field.name)
            found |= {path: inner} | _fields(path, inner)
    return found


def _changed(config: Any, path: str, value: Any) -> Any:
    """Returns a copy of a configuration with the field at a path changed."""
    name, _, rest = path.partition("__")
    value = _changed(getattr(config, name), rest, value) if rest else value
    return dataclasses.replace(config, **{name: value})
