"""Tokens are found by their bytes as if each were looked at."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from rnn_edge.runtimes.token_table import TokenTable
from rnn_edge.text import TokenBytes

LONG = b"0123456789abcdef"  # all that tokens are put in order by at first
said = st.one_of(st.binary(max_size=3), st.text("ab\0", max_size=2).map(lambda end: LONG + end.encode()))


@given(st.lists(said, max_size=12), said, st.sets(st.integers(0, 3)))
@example([b"a", b"a\0", b"a", b"", b"a\0b"], b"a\0", {3})
@example([LONG + b"b", LONG, LONG + b"a", LONG[:-1]], LONG + b"b", set())
def test_tokens_are_found_by_what_they_say(spoken, typed, left_out):
    table = TokenTable(TokenBytes(spoken), left_out={*left_out, None}, joinable=True)
    asked = {token: each for token, each in enumerate(spoken) if token not in left_out}
    assert table.starting_with(typed).tolist() == [token for token, each in asked.items() if each.startswith(typed)]
    begun = {token for token, each in asked.items() if each and each != typed and typed.startswith(each)}
    assert sorted(table.within(typed)) == sorted(begun)
