"""Any probe of class labels as a classifier."""

import functools
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from erasejax import probes
from erasejax.sklearn._estimator import FLOATS, Estimator, digits

__all__ = ["Probe"]


class Probe(ClassifierMixin, Estimator):
    """A classifier: any probe of class labels, for cross-validation and grid searches.

    Attributes:
      classes_: (k,) the labels, sorted.
      probe_: the fitted probe; float32 where JAX keeps 32 bits.
      n_features_in_: how many features it was fitted on.
      feature_names_in_: (d,) their names, if they have any.

    Example:
      >>> from erasejax.sklearn import Probe
      >>> data = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2).sample(
      ...     jax.random.key(0)
      ... )
      >>> x, y = np.asarray(data.x), np.array(["no", "yes"])[data.z]
      >>> probe = Probe(ej.probes.LDA()).set_params(probe__l2=0.1).fit(x, y)
      >>> probe.predict(x).tolist(), probe.predict_proba(x).shape, probe.score(x, y)
      (['no', 'no', 'no', 'yes', 'yes', 'yes'], (6, 2), 1.0)
    """

    def __init__(
        self,
        probe: probes.Probe = probes.Logistic(),  # noqa: B008 (frozen)
        *,
        random_state: Any = None,
    ) -> None:
        """Sets the options.

        Args:
          probe: before it is fitted; its fields are parameters, `probe__l2`.
          random_state: for probes that draw; an int s is the key `jax.random.key(s)`.
        """
        self.probe = probe
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fits the probe.

        Args:
          X: (n, d) numbers; those that are not float32 become float64.
          y: (n,) class labels: integers, booleans, text, or floats that are whole.
          sample_weight: (n,) weights >= 0; rows of weight 0 are never read. None for ones.

        Raises:
          TypeError: probe is no probe of rows.
          ValueError: y holds one class only or no labels, or values are missing or infinite.

        Warns:
          ConvergenceWarning: the iterations ran out.
          UserWarning: what else the status of the probe says.
        """
        if not isinstance(self.probe, probes.Probe):
            raise TypeError(f"probe: expected a probe, such as Logistic(), got {self.probe!r}")
        X, y = validate_data(self, X, y, dtype=FLOATS)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        with digits(X):
            self._keep(self.probe.fit(X, codes, weights=sample_weight, key=self._key(self.probe)))
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Returns the scores of rows.

        Args:
          X: (n, d) numbers, of the features of the fit.

        Returns:
          (n,) for two classes, positive for `classes_[1]`; else (n, k).
        """
        X = self._rows(X)
        with digits(X):
            return np.array(self.probe_.scores(X))

    def predict(self, X: Any) -> np.ndarray:
        """Returns the predicted labels (n,) of rows (n, d), of those in `classes_`."""
        X = self._rows(X)
        with digits(X):
            return self.classes_[np.asarray(self.probe_.predict(X))]

    def _has_likelihood(self) -> bool:
        """Returns whether the fitted probe gives probabilities; traced where nothing is fitted."""
        if hasattr(self, "_fitted"):
            return isinstance(self._fitted, probes.Likelihood)
        rows = jax.ShapeDtypeStruct((4, 1), np.float32), jax.ShapeDtypeStruct((4,), np.int32)
        fit = functools.partial(self.probe.fit, num_classes=2, key=jax.random.key(0))
        fitted = jax.eval_shape(fit, *rows)
        return isinstance(fitted, probes.Likelihood)

    @available_if(_has_likelihood)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Returns the log-probabilities (n, k) of the classes, where the probe has a likelihood."""
        X = self._rows(X)
        with digits(X):
            return np.array(self.probe_.log_proba(X))

    @available_if(_has_likelihood)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns the probabilities (n, k) of the classes, where the probe has a likelihood.

        They are float64, in which those near one do not round to it.
        """
        found = np.exp(self.predict_log_proba(X), dtype=np.float64)
        return found / found.sum(axis=1, keepdims=True)

    @property
    def probe_(self) -> Any:
        """The fitted probe."""
        return self._here()
