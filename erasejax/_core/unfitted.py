"""A configuration that is taken for what its `fit` returns says that it is not fitted yet."""

from typing import TYPE_CHECKING, NoReturn

__all__ = ["Unfitted"]


class Unfitted:
    """A configuration that has `fit`, and nothing else of what is fitted.

    It has no `__call__` to say so: `callable` would be true, which scikit-learn believes.
    """

    _fitted_to = "x, z"

    if not TYPE_CHECKING:  # else every name would be an attribute

        def __getattr__(self, name: str) -> NoReturn:
            own = f"'{type(self).__name__}' object has no attribute '{name}'"
            fit = f"{type(self).__name__}(...).fit({self._fitted_to})"
            hint = "" if name.startswith("_") else f"; it is not fitted yet: fitted = {fit}"
            raise AttributeError(f"{own}{hint}", name=name, obj=self)
