"""A run is told in lines that a person reads at a glance, and in values that a program reads."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rnn_edge.training.evaluation import Evaluation
from rnn_edge.training.report import Finished, Progress, describe_finish, describe_progress, finish_to_dict

LOOK = Evaluation(loss=math.log(8), top1=0.5, top3=0.75, tokens=1000, characters=2000)
STEP = Progress(
    step=1200,
    total_steps=4800,
    epoch=3,
    loss=2.0,
    learning_rate=0.001,
    gradient_norm=0.5,
    tokens_per_second=18300.4,
    seconds=65.0,
    share=0.25,
)
END = Finished(output=Path("model.pt"), held_out=LOOK, stopped_by="patience", steps=4800, seconds=3725.04)


def test_a_step_is_one_line():
    expected = "step 1,200/4,800  epoch 3  loss 2.000  18,300 tokens/s  3:15 left"
    assert describe_progress(STEP, None) == expected


def test_the_last_look_stays_in_sight():
    expected = "step 1,200/4,800  epoch 3  loss 2.000  perplexity 8.00  18,300 tokens/s  3:15 left"
    assert describe_progress(STEP, LOOK) == expected


def test_the_end_says_how_good_where_and_what_next():
    assert describe_finish(END) == (
        "held-out text: perplexity 8.00, 1.500 bits per character, top-1 50.0%, top-3 75.0% of 1,000 tokens\n"
        "saved model.pt after 4,800 steps in 1:02:05: no more improvement\n"
        "next: rnn-edge export model.pt"
    )


def test_the_end_is_plain_values_too():
    found = json.loads(json.dumps(finish_to_dict(END)))
    assert found["output"] == "model.pt"
    assert (found["bits_per_character"], found["top3"]) == (LOOK.bits_per_character, 0.75)
    assert (found["steps"], found["seconds"], found["stopped_by"]) == (4800, 3725.0, "patience")
