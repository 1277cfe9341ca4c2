"""Sentences with a concept in them, from word lists that two installed packages hold.

First names by sex are the counts of the census of the United States (package `names`); words by
feeling are those of VADER's lexicon (package `vaderSentiment`). Both are in frames, so that a
sentence says nothing else about the concept.
"""

import importlib.resources
from typing import NamedTuple

import numpy as np

__all__ = ["Sentences", "about_names", "about_words"]

_JOBS = (("carpenter", "builder", "driver", "surgeon"), ("nurse", "teacher", "dancer", "tailor"))
_NAMED = (
    "{name} works as a {job}.",
    "The {job} is called {name}.",
    "My neighbour {name} wants to be a {job}.",
    "We met {name}, who is a {job}, at the station.",
)
_FELT = (
    "They said it was {word}.",
    "The word of the day is {word}.",
    "{word} is what came to mind first.",
    "Somebody wrote {word} on the wall next to the old door.",
)


class Sentences(NamedTuple):
    """Sentences, and what is known of each.

    Attributes:
      text: n sentences.
      concept: (n,) labels 0 and 1, whose erasure is asked for.
      task: (n,) labels 0 and 1 of something else in the sentence, or None.
      group: (n,) the number of the name or word: its sentences belong together.
    """

    text: list[str]
    concept: np.ndarray
    task: np.ndarray | None
    group: np.ndarray


def about_names(seed: int, names: int = 500, bias: float = 0.8) -> Sentences:
    """Returns sentences about people: the concept is the sex of the name, the task the job.

    Args:
      seed: of the names, their jobs and their frames.
      names: how many of each sex; none that the other sex bears a tenth as often.
      bias: how often a job is one of those said to belong to the name's sex.
    """
    random = np.random.default_rng(seed)
    male, female = _census("male"), _census("female")
    both = [
        [name for name in own if own[name] > 10 * other.get(name, 0.0)]
        for own, other in ((male, female), (female, male))
    ]
    text, concept, task, group = [], [], [], []
    for sex, found in enumerate(both):
        for name in random.choice(found, min(names, len(found)), replace=False):
            number = len(set(group))
            for frame in _NAMED:
                kind = sex if random.random() < bias else 1 - sex
                text.append(frame.format(name=name.title(), job=random.choice(_JOBS[kind])))
                concept.append(sex)
                task.append(kind)
                group.append(number)
    return Sentences(text, np.array(concept), np.array(task), np.array(group))


def about_words(seed: int, words: int = 500) -> Sentences:
    """Returns sentences about words: the concept is whether a word is felt to be good.

    Args:
      seed: of the words.
      words: how many of each feeling, of those that most people agree on.
    """
    random = np.random.default_rng(seed)
    lexicon = importlib.resources.files("vaderSentiment") / "vader_lexicon.txt"
    felt: tuple[list[str], list[str]] = ([], [])
    for line in lexicon.read_text(encoding="utf-8").splitlines():
        word, mean, *_ = line.split("\t")
        if word.isalpha() and abs(float(mean)) >= 1.5:
            felt[float(mean) > 0].append(word)
    text, concept, group = [], [], []
    for good, found in enumerate(felt):
        for word in random.choice(found, min(words, len(found)), replace=False):
            number = len(set(group))
            for frame in _FELT:
                text.append(frame.format(word=word))
                concept.append(good)
                group.append(number)
    return Sentences(text, np.array(concept), None, np.array(group))


def _census(sex: str) -> dict[str, float]:
    """Returns first names of a sex and the share of people, in per cent, who bear them."""
    text = (importlib.resources.files("names") / f"dist.{sex}.first").read_text()
    rows = (line.split() for line in text.splitlines())
    return {name: float(share) for name, share, *_ in rows}
