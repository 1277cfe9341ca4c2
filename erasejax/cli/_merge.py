"""The command `merge`: moments of several machines into one."""

from pathlib import Path

from erasejax import files
from erasejax._core.text import show
from erasejax.cli._arguments import Files
from erasejax.cli._common import check_output
from erasejax.files import merge_counted

__all__ = ["merge"]


def merge(moments: Files, /, *, out: Path, force: bool = False) -> str:
    """Merge moments that several machines have counted with fit --moments.

    They are those of all rows together. Solve them by fit --moments OUT --method leace --out
    ERASER, or count more files into them.

    Args:
      moments: files that fit --moments has written, of different rows with the same features and
        classes.
      out: where to save the moments of all, a .safetensors file.
      force: replace the output if it exists.

    Returns:
      A line that says what is in them.

    Raises:
      ValueError: a file of rows is counted in two of them, or they do not fit each other.
      OSError: a file cannot be read or written.
    """
    if not moments:
        raise ValueError("expected files of moments, which fit --moments writes")
    check_output(out, force, *moments, kinds=(".safetensors",))
    whole = merge_counted(moments)
    files.save(whole.moments, out, overwrite=force, notes=whole.notes)
    return (
        f"{show(str(out))}: moments of {whole.rows} rows in {len(whole.files)} files, "
        f"{whole.concept}"
    )
