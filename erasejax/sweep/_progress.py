"""A progress bar in trials; a line a program where there is no terminal and no notebook."""

import sys
import time

from erasejax._core.bars import bar

__all__ = ["Progress"]


class Progress:
    """Shows how a sweep is getting on.

    Args:
      trials: how many there are to do.
      show: whether to show anything.
    """

    def __init__(self, trials: int, *, show: bool):
        self._show, self._trials, self._bar, self._seen = show, trials, None, 0
        self._said, self._doing = time.perf_counter(), ""
        self._started: tuple[float, int] | None = None  # when the first trials were done, how many
        if show:
            options = {"unit": " trials", "unit_scale": True, "dynamic_ncols": True}
            self._bar = bar("sweep", total=trials, smoothing=0.1, **options)

    def say(self, what: str) -> None:
        """Says what is going on, such as compiling."""
        if self._bar is not None:
            self._bar.set_description_str(what)
        elif self._show:
            print(f"sweep: {what}", file=sys.stderr, flush=True)

    def doing(self, what: str) -> None:
        """Says what changes all the time: beside the bar, or with the next count of trials."""
        self._doing = f", {what}"
        if self._bar is not None:
            self._bar.set_description_str(what)

    def note(self, what: str) -> None:
        """Says what is to stay in sight."""
        if self._bar is not None:
            self._bar.write(f"sweep: {what}", file=sys.stderr)
        else:
            self.say(what)

    def advance(self, trials: int) -> None:
        """Counts trials that are done."""
        self._seen += trials
        if self._bar is not None:
            self._bar.update(trials)
            return
        now = time.perf_counter()
        if self._started is None:  # compiling does not count
            self._started = now, self._seen
        elif self._show and self._seen > self._started[1] and now - self._said > 30:
            self._said = now
            rate = (self._seen - self._started[1]) / (now - self._started[0])
            left = (self._trials - self._seen) / rate
            counted = f"{self._seen:,} of {self._trials:,} trials"
            self.say(f"{counted}, {rate:,.0f} a second, {left:,.0f} s left{self._doing}")

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()
