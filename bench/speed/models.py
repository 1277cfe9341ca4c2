"""Erasers inside a model: what hooks and recording add to a forward pass, and scrubbing.

The model is a torch encoder of random weights, 6 layers of 384 features as MiniLM has them. The
peer of scrubbing is plain torch, one layer after the other: a forward pass in which the layers
before are erased, concept-erasure's `LeaceFitter` on what the layer returns, and so on.

    python -m bench.speed.models
"""

import contextlib
import functools

import numpy as np
import torch
from concept_erasure import LeaceFitter

import erasejax as ej
from bench.speed.harness import Case, Figure, Row, compare, measure

LAYERS, WIDTH, LENGTH, BATCH, BATCHES = 6, 384, 20, 128, 8
TOKENS = (100_000, 768)  # of the recording, and their width


@functools.cache
def encoder(width: int = WIDTH, layers: int = LAYERS) -> torch.nn.Module:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(
        width, width // 32, 4 * width, dropout=0.0, batch_first=True
    )
    return torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()


def batches(width: int = WIDTH, count: int = BATCHES) -> list[tuple[torch.Tensor, np.ndarray]]:
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        z = random.integers(0, 2, BATCH)
        x = random.standard_normal((BATCH, LENGTH, width)) + z[:, None, None]
        found.append((torch.tensor(x, dtype=torch.float32), z))
    return found


@torch.no_grad()
def forward(model: torch.nn.Module, given: list) -> None:
    for x, _ in given:
        model(x)


def paths(count: int = LAYERS) -> list[str]:
    return [f"layers.{i}" for i in range(count)]


def hooks(repeats: int) -> tuple[list[Row], list[Figure]]:
    """Erasing at all layers, against the plain forward pass."""
    model, given = encoder(), batches()
    erasers = ej.models.scrub(model, given[:2], paths()).erasers

    def erased() -> None:
        with ej.models.erased(model, erasers):
            forward(model, given)

    cases = [
        Case("forward pass", lambda: forward(model, given), peer=True),
        Case("erased at 6 layers", erased),
    ]
    return compare("hooks", cases, repeats=repeats), []


def recording(repeats: int) -> tuple[list[Row], list[Figure]]:
    """Recording one layer of 100,000 tokens of 768 features, against the plain forward pass."""
    tokens, width = TOKENS
    model, given = encoder(width, 2), batches(width, -(-tokens // (BATCH * LENGTH)))

    @torch.no_grad()
    def recorded() -> None:
        with ej.models.recorded(model, ["layers.1"], z=given[0][1]) as acts:
            for i, (x, z) in enumerate(given):
                if i:
                    acts.batch(z=z)
                model(x)
        ej.LEACE().solve(acts["layers.1"].moments)

    cases = [
        Case("forward pass", lambda: forward(model, given), peer=True),
        Case("recorded", recorded),
    ]
    return compare("recording", cases, repeats=repeats), []


def scrubbing(repeats: int) -> tuple[list[Row], list[Figure]]:
    """An eraser for each layer, with those before in place."""
    model, given = encoder(), batches()

    @torch.no_grad()
    def theirs() -> None:
        with contextlib.ExitStack() as stack:
            for path in paths():
                module, fitter = model.get_submodule(path), LeaceFitter(WIDTH, 1)
                labels = {"z": None}

                def update(_, __, output, fitter=fitter, labels=labels):
                    rows = output.reshape(-1, WIDTH)
                    fitter.update(rows, labels["z"].repeat_interleave(LENGTH)[:, None].float())

                handle = module.register_forward_hook(update)
                for x, z in given:
                    labels["z"] = torch.tensor(z)
                    model(x)
                handle.remove()
                eraser = fitter.eraser
                own = module.register_forward_hook(lambda _, __, output, e=eraser: e(output))
                stack.callback(own.remove)

    cases = [
        Case("concept-erasure in plain torch", theirs, peer=True),
        Case("scrub", lambda: ej.models.scrub(model, given, paths())),
    ]
    return compare("scrubbing", cases, repeats=repeats), []


def layers(repeats: int) -> tuple[list[Row], list[Figure]]:
    """Fits of all layers, each of 4,000 rows: one after another, and at once."""
    random = np.random.default_rng(0)
    z = random.integers(0, 2, 4_000)
    rows = {
        path: (random.standard_normal((4_000, WIDTH)) + z[:, None]).astype(np.float32)
        for path in paths()
    }
    cases = [Case("read_layers", lambda: ej.models.read_layers(rows, z), units=LAYERS)]
    return compare("all layers", cases, repeats=repeats), []


def main() -> None:
    parts = {"hooks": hooks, "recording": recording, "scrubbing": scrubbing, "layers": layers}
    packages = ("jax", "torch", "concept-erasure")
    measure("Models", "pass", parts, about=__doc__, packages=packages)


if __name__ == "__main__":
    main()
