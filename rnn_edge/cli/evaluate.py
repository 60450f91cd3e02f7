"""`rnn-edge eval`: what a model's suggestions save a typist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rnn_edge.cli.messages import progress_line
from rnn_edge.cli.options import add_options, bundle_and_texts, place_options, read_text, settled
from rnn_edge.errors import OptionsError, TextError

if TYPE_CHECKING:
    from rnn_edge.runtimes.evaluating import Evaluation
    from rnn_edge.runtimes.sessions import Place


@click.command("eval")
@click.argument("paths", metavar="[BUNDLE] FILE", nargs=-1, required=True)
@click.option("--lines", is_flag=True, help="Take each line for a text of its own, not the file.")
@add_options(
    ("--max-words", click.IntRange(1), 1000, "Most words to type; perplexity is of the whole file."),
    ("--num-suggestions", click.IntRange(1, 100), 3, "Suggestions that the typist sees."),
)
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def evaluate(
    paths: tuple[str, ...],
    lines: bool,
    max_words: int,
    num_suggestions: int,
    place: Place,
    as_json: bool,
) -> None:
    """Type FILE with BUNDLE, or the built-in model, and count what its suggestions save.

    The typist accepts a suggestion as soon as it is the rest of the word. Accepting is one keystroke.

    \b
    Example:
      rnn-edge eval model.rnn held-out.txt
    """
    from rnn_edge.runtimes import LanguageModel, SuggestOptions, evaluating, load

    bundle, files = bundle_and_texts(paths)
    if len(files) != 1:
        raise click.UsageError(f"wanted one FILE to type, got {len(files)}: rnn-edge eval model.rnn held-out.txt")
    try:
        with Path(files[0]).open(encoding="utf-8-sig") as file:
            text = read_text(file)
    except OSError as error:
        raise TextError(f"cannot read {files[0]}: {error.strerror}") from error
    texts = text.split("\n") if lines else [text]
    model = load(bundle, **settled(bundle, place))
    if not isinstance(model, LanguageModel):
        raise OptionsError(f"eval types with a language model, and {bundle} is a {type(model).__name__.lower()}")
    options = SuggestOptions(num_suggestions=num_suggestions)
    with progress_line() as show:
        for found in evaluating.evaluate(model, texts, max_words=max_words, options=options):
            if not isinstance(found, evaluating.Evaluation):
                show(f"{found:,} words", False)
    assert isinstance(found, evaluating.Evaluation)
    click.echo(json.dumps(found.to_dict()) if as_json else _describe_evaluation(found))


def _describe_evaluation(found: Evaluation) -> str:
    return (
        f"perplexity {found.perplexity:.2f}, {found.bits_per_character:.3f} bits per character\n"
        f"typed {found.words:,} words: keystroke savings {found.keystroke_savings:.1%} "
        f"({found.keystrokes:,} keys for {found.characters:,} characters), "
        f"next word top-1 {found.top1:.1%}, top-3 {found.top3:.1%}"
    )
