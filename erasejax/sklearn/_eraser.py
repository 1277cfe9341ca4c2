"""Any eraser as a transformer."""

from typing import Any, Self

import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import validate_data

from erasejax._core.inputs import choice
from erasejax._core.types import FittedEraser
from erasejax.erasers import LEACE, Eraser
from erasejax.sklearn._concept import coded
from erasejax.sklearn._estimator import FLOATS, Estimator, digits

__all__ = ["ConceptEraser"]


class ConceptEraser(OneToOneFeatureMixin, TransformerMixin, Estimator):
    """A transformer that erases a concept from rows: any eraser, as a step of a pipeline.

    The concept is read when fitting, never when transforming. It is given by name, as
    `sensitive_features=`; it is never guessed from y, which in a pipeline is the task. With
    `concept="y"` it is y. Class labels become classes and floats quantities, column by column:

    - Integers, booleans, text, categories of anything and objects of one kind are class labels.
    - Floats, and objects that are numbers, some of them floats, are a quantity.
    - Missing values, infinities, dates and objects of several kinds are an error.

    One column of labels is one concept of k classes. Of several columns, those of labels are
    one-hot coded, those of quantities stay as they are, and all lie side by side: what each column
    says is erased, not what only their combinations say. For that pass one column of combinations.

    An eraser that keeps a task (`SPLINCE`) reads it from y. One that reads the concept when it is
    applied (`OracleLEACE`, `QLEACE`) has no place in a pipeline and is refused.

    Attributes:
      eraser_: the fitted eraser, such as a `Projection`; float32 where JAX keeps 32 bits.
      concept_names_: (k,) what the columns of the coded concept are, such as "sex=f" or "age".
      n_features_in_: how many features it was fitted on.
      feature_names_in_: (d,) their names, if they have any.

    Example:
      >>> from erasejax.sklearn import ConceptEraser
      >>> data = ej.datasets.GaussianClasses(rows=20, dims=3).sample(jax.random.key(0))
      >>> x, z = np.asarray(data.x), np.array(["f", "m"])[data.z]
      >>> eraser = ConceptEraser(ej.LEACE(shrinkage=0.1)).fit(x, sensitive_features=z)
      >>> eraser.concept_names_.tolist(), eraser.get_params()["method__shrinkage"]
      (['sensitive_features=f', 'sensitive_features=m'], 0.1)
      >>> erased = eraser.transform(x)
      >>> bool(np.allclose(erased[z == "f"].mean(0), erased[z == "m"].mean(0), atol=1e-5))
      True
    """

    def __init__(
        self,
        method: Eraser = LEACE(),  # noqa: B008 (frozen)
        concept: str = "sensitive_features",
        *,
        random_state: Any = None,
    ) -> None:
        """Sets the options.

        Args:
          method: an eraser before it is fitted; its fields are parameters, `method__shrinkage`.
          concept: "sensitive_features", or "y" where y is what should be erased.
          random_state: for methods that draw; an int s is the key `jax.random.key(s)`.
        """
        self.method = method
        self.concept = concept
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Fits the eraser.

        Args:
          X: (n, d) numbers; those that are not float32 become float64.
          y: (n,) or (n, k), read where it is the concept, or the task of a method that keeps one.
          sensitive_features: (n,) or (n, k), the concept; a data frame, an array, or lists.
          sample_weight: (n,) weights >= 0; rows of weight 0 are never read. None for ones.

        Raises:
          TypeError: method is no eraser, or a column of the concept is neither labels nor numbers.
          ValueError: the concept is missing or has one class only, values are missing or infinite,
            or the method reads the concept when it is applied.

        Warns:
          UserWarning: what the status of the eraser says, such as that nothing was removed.
        """
        if not isinstance(self.method, Eraser):
            raise TypeError(f"method: expected an eraser, such as LEACE(), got {self.method!r}")
        name, given = self._choose(y, sensitive_features)
        X = validate_data(self, X, dtype=FLOATS)
        z, names = coded(name, given)
        task = None
        if self.method.reads_task:
            if self.concept == "y" or y is None:
                raise ValueError(
                    f"y: {type(self.method).__name__} reads a task; pass it as y, and the concept "
                    "as sensitive_features"
                )
            task, _ = coded("y", y)
        check_consistent_length(X, z, task)
        with digits(X):
            fitted = self.method.fit(
                X, z, weights=sample_weight, task=task, key=self._key(self.method)
            )
        if fitted.needs_z:
            raise ValueError(
                f"method: {type(self.method).__name__} reads the concept of the rows that it "
                "transforms, which a pipeline does not have; use it by itself, eraser(x, z)"
            )
        self.concept_names_ = np.array(names, object)
        self._keep(fitted)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Erases the concept.

        Args:
          X: (n, d) numbers, of the features of the fit.

        Returns:
          (n, d) in the dtype of X, float64 where that is not float32.
        """
        X = self._rows(X)
        with digits(X):
            return np.array(self.eraser_(X))

    @property
    def eraser_(self) -> FittedEraser:
        """The fitted eraser."""
        return self._here()

    def _choose(self, y: Any, sensitive_features: Any) -> tuple[str, Any]:
        """Returns the name of the argument that holds the concept, and its value.

        Raises:
          ValueError: it is missing, or both are given.
        """
        choice("concept", self.concept, ("sensitive_features", "y"))
        if self.concept == "y":
            if sensitive_features is not None:
                raise ValueError(
                    "sensitive_features: the concept is y, as concept='y' says; leave one of the "
                    "two out"
                )
            if y is None:
                raise ValueError(
                    "y: ConceptEraser(concept='y') requires y to be passed, but the target y is "
                    "None"
                )
            return "y", y
        if sensitive_features is None:
            raise ValueError(
                "sensitive_features: missing; pass what should be erased, fit(X, y, "
                "sensitive_features=...). In a pipeline: sklearn.set_config("
                "enable_metadata_routing=True), and ConceptEraser(...).set_fit_request("
                "sensitive_features=True). If y itself should be erased, ConceptEraser(concept='y')"
            )
        return "sensitive_features", sensitive_features

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.target_tags.required = self.concept == "y"
        return tags
