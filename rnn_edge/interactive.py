"""A line that is typed with suggestions: they appear at every key, and Tab takes the first.

Knows prompt_toolkit and a session. Where prompt_toolkit is not installed this cannot be imported, and the command line
asks plainly.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.auto_suggest import AutoSuggest
from prompt_toolkit.auto_suggest import Suggestion as Shown
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from rnn_edge.errors import TextError
from rnn_edge.runtimes import LanguageModel, Suggestion

__all__ = ["Typist", "line_reader"]


class Typist(AutoSuggest):
    """Follows a line as it is edited, with a session that reads each key once."""

    def __init__(self, model: LanguageModel) -> None:
        self._session = model.session()
        self._told: tuple[str, list[Suggestion]] | None = None  # for the last line

    def suggestions(self, line: str) -> list[Suggestion]:
        """Return how a line may go on; nothing where it cannot be read."""
        if self._told is None or self._told[0] != line:
            try:
                self._follow(line)
                self._told = line, self._session.suggest()
            except TextError:
                self._told = line, []
        return self._told[1]

    def get_suggestion(self, buffer: Buffer, document: Document) -> Shown | None:  # noqa: ARG002 (as it is called)
        """Return what is shown behind the cursor."""
        found = self.suggestions(document.text) if document.is_cursor_at_the_end else []
        return Shown(found[0].text) if found else None

    def _follow(self, line: str) -> None:
        text = self._session.text
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, line, strict=False)))
        if same < len(text):
            self._session.backspace(len(text) - same)
        if same < len(line):
            self._session.type(line[same:])


def line_reader(model: LanguageModel) -> Callable[[], str]:
    """Return what asks for a line."""
    typist, keys = Typist(model), KeyBindings()

    @keys.add("tab")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if shown := typist.get_suggestion(buffer, buffer.document):
            buffer.insert_text(shown.text)

    def toolbar() -> str:
        line = get_app().current_buffer.text
        return "   ".join(each.text for each in typist.suggestions(line)) or " "

    session: PromptSession[str] = PromptSession(
        "> ", auto_suggest=typist, key_bindings=keys, bottom_toolbar=toolbar, enable_history_search=False
    )
    return session.prompt
