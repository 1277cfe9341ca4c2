"""Labels of a task and of a concept as one, for erasing within the classes of the task."""

import dataclasses

from erasejax.files._labels import Labels

__all__ = ["joint_labels"]


def joint_labels(labels: Labels, task: Labels) -> Labels:
    """Returns the classes y k + z of task y and concept z: all that erasing within a task needs.

    Args:
      labels: with k classes.
      task: of the same rows.

    Raises:
      ValueError: one of them is no class labels.
    """
    for own in (labels, task):
        if own.names is None:
            raise ValueError(
                f"{own.source}: erasing within a task takes class labels of both, got floats"
            )
    ys, zs = task.names or (), labels.names or ()
    names = tuple(f"{y}, {z}" for y in ys for z in zs)
    return dataclasses.replace(labels, values=task.values * len(zs) + labels.values, names=names)
