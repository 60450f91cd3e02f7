"""Complete lines of text from standard input with the bundle beside this file; the best three of each."""

import sys
from pathlib import Path

import rnn_edge
from rnn_edge.runtimes import LanguageModel

OPTIONS = rnn_edge.GenerateOptions(num_beams=16, num_return_sequences=3, max_new_tokens=4, stop_strings=("\n",))

model = rnn_edge.load(Path(__file__).parent / "model", self_test=True)  # compares with the golden vectors first
assert isinstance(model, LanguageModel)
for line in sys.stdin:
    text = line.rstrip("\n")
    for completion in model.complete(text, OPTIONS):
        print(text + completion.text, f"{completion.log_prob:.2f}", sep="\t")
