"""`rnn-edge inspect`: a page that shows what cells do while they read."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import click

from rnn_edge.cli.messages import with_torch
from rnn_edge.cli.options import PATH, add_options, bundle_and_texts, read_text


@click.command()
@click.argument("words", metavar="[BUNDLE] [TEXT]", nargs=-1)
@click.option("-o", "--output", type=PATH, required=True, help="The HTML page to write.")
@click.option("--input", "source", type=click.File("r", encoding="utf-8-sig"), help="Read the text from a file.")
@click.option("--checkpoint", type=PATH, help="Draw from its model.pt, too, how far an error reaches back.")
@add_options(
    ("--beam-size", click.IntRange(1), 4, "Hypotheses kept in the tree."),
    ("--max-new-tokens", click.IntRange(1), 8, "Depth of the tree."),
)
def inspect(
    words: tuple[str, ...],
    output: Path,
    source: TextIO | None,
    checkpoint: Path | None,
    beam_size: int,
    max_new_tokens: int,
) -> None:
    """Draw what BUNDLE, or the built-in model, does while it reads TEXT: a page that opens in any browser.

    The text is coloured by any cell's activation, cells are ranked by how well they tell quotes, brackets, indentation
    and the position in a line, gates by how often they are open, and beams are drawn as a tree.

    \b
    Examples:
      rnn-edge inspect 'def f(x):' -o page.html
      rnn-edge inspect model.rnn --input program.py -o page.html
      rnn-edge inspect model.rnn --input program.py --checkpoint model.pt -o page.html
    """
    from rnn_edge.bundle import Bundle
    from rnn_edge.files import replace_file
    from rnn_edge.inspection import inspect, page_of
    from rnn_edge.runtimes.load import BUILT_IN

    path, texts = bundle_and_texts(words)
    if len(texts) + (source is not None) != 1:
        raise click.UsageError("give one TEXT, or --input")
    if not output.parent.is_dir():
        raise click.UsageError(f"cannot write {output}: there is no directory {output.parent}; create it")
    text = read_text(source) if source else texts[0]
    found = inspect(Bundle.read(path or BUILT_IN), text, num_beams=beam_size, max_new_tokens=max_new_tokens)
    page = page_of(found, title=path.name if path else "built-in model", reach=_reach(checkpoint, text))

    def write(part: Path) -> None:
        part.write_text(page, encoding="utf-8")

    replace_file(output, write)
    click.echo(f"{output}: {len(found.pieces):,} tokens, {len(found.names):,} cells")


def _reach(checkpoint: Path | None, text: str) -> list[float]:
    if checkpoint is None:
        return []
    found: list[float] = with_torch("rnn_edge.training.reach").reach_in_text(
        with_torch("rnn_edge.modules").load_checkpoint(checkpoint), text
    )
    return found
