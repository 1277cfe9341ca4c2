"""A configuration that is taken for what its `fit` returns says that it is not fitted yet."""

from typing import TYPE_CHECKING, NoReturn

__all__ = ["Unfitted", "not_fitted"]


class Unfitted:
    """A configuration that has `fit`, and nothing else of what is fitted."""

    _fitted_to = "x, z"

    if not TYPE_CHECKING:  # else every name would be an attribute

        def __getattr__(self, name: str) -> NoReturn:
            own = f"'{type(self).__name__}' object has no attribute '{name}'"
            hint = "" if name.startswith("_") else f"; {not_fitted(self)}"
            raise AttributeError(f"{own}{hint}", name=name, obj=self)


def not_fitted(config: Unfitted) -> str:
    """Returns what to do with a configuration that is called or read as if it were fitted."""
    return f"it is not fitted yet: fitted = {type(config).__name__}(...).fit({config._fitted_to})"
