"""The names of methods and probes on the command line and in specs."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from erasejax import datasets, erasers, probes

__all__ = ["CONTRAST_PROBES", "DATASETS", "METHODS", "PROBES", "configure", "look_up"]

DATASETS: Mapping[str, Any] = {
    "activations": datasets.Activations,
    "continuous-concept": datasets.ContinuousConcept,
    "contrast-pairs": datasets.ContrastPairs,
    "discrete-features": datasets.DiscreteFeatures,
    "gaussian-classes": datasets.GaussianClasses,
    "skewed-classes": datasets.SkewedClasses,
    "two-concepts": datasets.TwoConcepts,
    "xor-classes": datasets.XorClasses,
}

METHODS: Mapping[str, Any] = {
    "ablation": erasers.Ablation,
    "alf-qleace": erasers.ALFQLEACE,
    "identity": erasers.Identity,
    "inlp": erasers.INLP,
    "leace": erasers.LEACE,
    "mean-difference": erasers.MeanDifference,
    "oracle-leace": erasers.OracleLEACE,
    "qleace": erasers.QLEACE,
    "random-directions": erasers.RandomDirections,
    "rlace": erasers.RLACE,
    "sal": erasers.SAL,
    "splince": erasers.SPLINCE,
}

PROBES: Mapping[str, Any] = {
    "kernel-ridge": probes.KernelRidge,
    "lda": probes.LDA,
    "least-squares": probes.LeastSquares,
    "linear-svm": probes.LinearSVM,
    "logistic": probes.Logistic,
    "mean-difference": probes.MeanDifferenceProbe,
    "mlp": probes.MLP,
    "qda": probes.QDA,
    "zero-one": probes.ZeroOne,
}

CONTRAST_PROBES: Mapping[str, Any] = {
    "ccs": probes.CCS,
    "crc": probes.CRC,
    "random-direction": probes.RandomDirection,
}


def look_up(what: str, name: str, table: Mapping[str, Any]) -> Any:
    """Returns what a name stands for.

    Args:
      what: what it is the name of, for the message.
      name: the name.
      table: one of the tables of this module.

    Raises:
      ValueError: there is no such name; the message suggests the nearest.
    """
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name.lower().replace("_", "-"), table, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"unknown {what} {name!r}; {hint}there are {', '.join(sorted(table))}")


def configure(name: str, options: Mapping[str, Any]) -> Any:
    """Builds a method from its name and the options that were given.

    Args:
      name: a key of `METHODS`.
      options: values of its fields; None where not given.

    Returns:
      The configuration object.

    Raises:
      ValueError: there is no such method, or it has no such option.
    """
    method = look_up("method", name, METHODS)
    given = {key: value for key, value in options.items() if value is not None}
    fields = [field.name for field in dataclasses.fields(method)]
    if unknown := [key for key in given if key not in fields]:
        known = ", ".join(f"--{field.replace('_', '-')}" for field in fields) or "no options"
        raise ValueError(
            f"--{unknown[0].replace('_', '-')} is no option of {name}, which has {known}"
        )
    if isinstance(given.get("probe"), str):
        given["probe"] = look_up("probe", given["probe"], PROBES)()
    return method(**given)
