"""Erasers folded into the weights of the layers beside which they stand.

A layer that writes x = W h + c becomes one that writes r(x) = (P W) h + (P c + K T^T b), and one
that reads y = V x + c becomes y = V r(x) + c = (V P) x + (c + V K T^T b), with P = I - K T^T. Both
are exact up to rounding, so long as nothing stands between the layer and where x is.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from erasejax.models._edit import Edit, Layout, Side, check, edit, host, like
from erasejax.models._paths import find_modules, is_torch_model
from erasejax.projection import Projection

__all__ = ["Place", "fold", "fold_into", "places"]


def fold(
    eraser: Projection,
    weight: Any,
    bias: Any = None,
    *,
    side: Side = "writes",
    layout: Layout = "out,in",
    constant: bool = True,
) -> tuple[Any, Any]:
    """Returns the parameters of a layer with an eraser folded into them.

    They are computed in float64 on the host, and rounded once. Where several layers add up to x, as
    the writers of a residual stream do, every one of them is folded, and the constant K T^T b
    belongs into one of them only: pass `constant=False` for the others.

    Args:
      eraser: a `Projection`, of strength 1 or another.
      weight: of a numpy, JAX or torch array; (out, in), or (in, out) as `layout` says.
      bias: (out,), or None where the layer has none.
      side: "writes" where the eraser acts on what the layer returns, "reads" where on what it
        is given.
      layout: of the weight; "out,in" as torch's Linear has it, "in,out" as transformers' Conv1D
        and flax's Linear.
      constant: whether the constant is part of it.

    Returns:
      (weight, bias), of the kind, the dtype and the device of those given. Without a bias it is
      that of the weight, or None where none is needed.

    Raises:
      TypeError: the eraser is no `Projection`, or the weight holds no floats.
      ValueError: the layer is not as wide as the eraser, the fit of the eraser failed, or an
        option is unknown.

    Under jit: not to be called.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.LEACE().fit(data)
      >>> weight, bias = np.ones((2, 4), np.float32), np.zeros(2, np.float32)
      >>> h = np.ones((5, 4), np.float32)
      >>> own, shift = ej.models.fold(eraser, weight, bias)
      >>> np.allclose(h @ own.T + shift, eraser(h @ weight.T + bias), atol=1e-5)
      True
    """
    check(side=side, layout=layout)
    _floating("weight", weight)
    found = edit("eraser", eraser, constant=constant)
    if len(weight.shape) != 2:
        raise ValueError(f"weight: expected 2 axes, {layout}, got shape {tuple(weight.shape)}")
    out, into = weight.shape if layout == "out,in" else weight.shape[::-1]
    _check_width("weight", eraser, out if side == "writes" else into, side)
    if bias is not None and tuple(bias.shape) != (out,):
        raise ValueError(f"bias: expected shape ({out},), got {tuple(bias.shape)}")
    return _folded(found, weight, bias, side, layout)


def _folded(found: Edit, weight: Any, bias: Any, side: Side, layout: Layout) -> tuple[Any, Any]:
    """Returns the parameters of a layer with an edit folded into them."""
    own = host(weight) if layout == "out,in" else host(weight).T
    offset = None if bias is None else host(bias)
    up, down = found.factors(own, side)
    moved = found.shift(own, offset, side)
    own = own + up @ down
    if offset is not None:
        bias = like(offset + moved, bias)
    elif moved.any():
        bias = like(moved, weight)
    return like(own if layout == "out,in" else own.T, weight), bias


def fold_into(
    model: Any,
    erasers: Mapping[str, Projection],
    *,
    side: Side = "writes",
    constant: bool = True,
) -> None:
    """Folds erasers into layers of a model, in place.

    The model then is what it would be with the erasers applied to what the layers return, or are
    given: no hook stays behind. Layers are torch's Linear and Embedding, transformers' Conv1D, and
    Linear and Embed of flax nnx. A bias that is needed and missing is made. Every layer is looked
    at before the first is changed.

    Args:
      model: a torch module, or a flax nnx Module.
      erasers: a `Projection` for each path of a layer.
      side: "writes" or "reads", see `fold`. Embeddings only write.
      constant: whether the constant K T^T b is part of it. Of several layers that add up to what
        is erased, one has it: fold the others with False.

    Raises:
      TypeError: the model is of neither library, or an eraser is no `Projection`.
      ValueError: there is no such path; what is there is no such layer, or not as wide as the
        eraser; its weights are shared with another layer; or the fit of an eraser failed.

    Under jit: not to be called.

    Example:
      >>> from flax import nnx
      >>> layer = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
      >>> h = jnp.ones((5, 4))
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.LEACE().fit(data)
      >>> expected = eraser(layer(h))
      >>> ej.models.fold_into(layer, {"": eraser})
      >>> np.allclose(layer(h), expected, atol=1e-5)
      True
    """
    for place in places(model, erasers, side, constant=constant).values():
        if place.kind == "embedding":  # every row is an x of its own
            rows = host(place.weight)
            rows = rows - (rows @ place.edit.test) @ place.edit.kernel.T + place.edit.constant
            place.put(like(rows, place.weight), None)
        else:
            place.put(*_folded(place.edit, place.weight, place.bias, side, place.layout))


class Place(NamedTuple):
    """A layer into which an eraser can be folded.

    Attributes:
      edit: what is to be folded into it.
      module: the layer.
      kind: "linear" or "embedding".
      layout: of its weight.
      name: of its weight, as an attribute.
    """

    edit: Edit
    module: Any
    kind: Literal["linear", "embedding"]
    layout: Layout
    name: str

    @property
    def weight(self) -> Any:
        """The weight, a torch or JAX array."""
        return self._value(self.name)

    @property
    def bias(self) -> Any:
        """The bias, None where there is none."""
        return None if self.kind == "embedding" else self._value("bias")

    def _value(self, name: str) -> Any:
        held = getattr(self.module, name, None)
        if held is None or hasattr(held, "detach"):
            return held
        return None if _variable_is_empty(held) else held[...]

    def put(self, weight: Any, bias: Any) -> None:
        """Puts a weight and a bias, or none, in the place of those that the layer has."""
        for name, value in ((self.name, weight), ("bias", bias)):
            if value is None:
                continue
            if self._value(name) is None:
                held = getattr(self.module, self.name)
                if hasattr(value, "detach"):
                    made = type(held)(value, requires_grad=held.requires_grad)
                    self.module.register_parameter(name, made)
                else:
                    setattr(self.module, name, type(held)(value))
                    self.module.use_bias = True
            elif hasattr(value, "detach"):
                getattr(self.module, name).data.copy_(value)
            else:
                getattr(self.module, name)[...] = value


def _variable_is_empty(variable: Any) -> bool:
    return variable.get_value() is None if hasattr(variable, "get_value") else False


# Layers by the name of their class: a class derived from one of them may compute something else.
_KINDS: dict[str, tuple[Literal["linear", "embedding"], Layout, str]] = {
    "torch.Linear": ("linear", "out,in", "weight"),
    "torch.NonDynamicallyQuantizableLinear": ("linear", "out,in", "weight"),
    "torch.Embedding": ("embedding", "in,out", "weight"),
    "transformers.Conv1D": ("linear", "in,out", "weight"),
    "flax.Linear": ("linear", "in,out", "kernel"),
    "flax.Embed": ("embedding", "in,out", "embedding"),
}


def places(
    model: Any, erasers: Mapping[str, Projection], side: Side, *, constant: bool
) -> dict[str, Place]:
    """Returns the layers at the paths, each looked at.

    Args:
      model: a torch module, or a flax nnx Module.
      erasers: a `Projection` for each path.
      side: of the layers.
      constant: whether the constant is part of the edits.

    Raises:
      TypeError: an eraser is no `Projection`.
      ValueError: as `fold_into`.
    """
    check(side=side)
    found = {}
    for path, module in find_modules(model, erasers).items():
        cls = type(module)
        kind = _KINDS.get(f"{cls.__module__.partition('.')[0]}.{cls.__name__}")
        where = repr(path) if path else "the model"
        if kind is None:
            raise ValueError(
                f"{where}: expected a Linear, Conv1D or Embedding layer, got {cls.__name__}; an "
                "eraser is folded into a layer whose weights it stands beside, with no norm or "
                "activation between; models.erased erases anywhere"
            )
        place = Place(edit(where, erasers[path], constant=constant), module, *kind)
        if place.kind == "embedding" and side == "reads":
            raise ValueError(f"{where}: an embedding reads no rows; fold it with side='writes'")
        if getattr(module, "max_norm", None) is not None:
            raise ValueError(f"{where}: its max_norm changes rows after they are read")
        out, into = place.weight.shape if place.layout == "out,in" else place.weight.shape[::-1]
        _check_width(where, erasers[path], out if side == "writes" else into, side)
        _floating(where, place.weight)
        if is_torch_model(model):
            _check_own(model, module, where)
        found[path] = place
    return found


def _check_own(model: Any, module: Any, where: str) -> None:
    """Checks that no other layer has the weights of a layer.

    Raises:
      ValueError: one has.
    """
    for path, other in model.named_modules(remove_duplicate=False):
        if other is not module and getattr(other, "weight", None) is module.weight:
            raise ValueError(
                f"{where}: its weights are those of {path!r} too, which would change with them; "
                "untie them first, with a copy for each"
            )


def _check_width(where: str, eraser: Projection, width: int, side: Side) -> None:
    """Checks that a layer is as wide as an eraser.

    Raises:
      ValueError: they differ.
    """
    if eraser.dims != width:
        verb = "returns" if side == "writes" else "is given"
        raise ValueError(
            f"{where}: {verb} {width} features, and the eraser was fitted on {eraser.dims}"
        )


def _floating(where: str, weight: Any) -> None:
    """Checks that a weight holds floats of 16 bits or more.

    Raises:
      TypeError: it holds something else, as quantised weights do.
    """
    name = getattr(weight.dtype, "name", str(weight.dtype).removeprefix("torch."))
    if name not in ("float64", "float32", "float16", "bfloat16"):
        raise TypeError(
            f"{where}: expected weights of floats of 16 bits or more, got {name}; dequantise them"
        )
