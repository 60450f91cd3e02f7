"""Where Hugging Face `generate` has the same option, it gives the same tokens on the same logits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from runtimes.fakes import RememberingModel, about, random_scores
from runtimes.reference import Setting
from runtimes.test_decoding_reference import rules_of, search, walk_to_the_end

from rnn_edge.runtimes.decoding import greedily
from rnn_edge.runtimes.options import GenerateOptions
from rnn_edge.runtimes.scores import draw

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("default")  # its own are not ours to mend

END = 0


class Wrapped(transformers.PreTrainedModel, transformers.GenerationMixin):
    """A step model as Hugging Face's: it reads every row from its beginning."""

    config_class = transformers.PretrainedConfig

    def __init__(self, scores, vocab_size):
        super().__init__(transformers.PretrainedConfig(vocab_size=vocab_size, num_hidden_layers=1))
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # tells it the device
        self._network = RememberingModel(scores)

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}

    def forward(self, input_ids, **_):
        logits, _ = self._network.step(np.ascontiguousarray(input_ids.numpy()), self._network.start(len(input_ids)))
        return transformers.modeling_outputs.CausalLMOutput(logits=torch.tensor(logits)[:, None])


def generate(setting: Setting, **options):
    """Return the new tokens of each sequence, and their scores where beams were used."""
    model = Wrapped(setting.scores, len(setting.token_bytes))
    prompt = torch.tensor([setting.prompt])
    found = model.generate(
        prompt,
        max_new_tokens=setting.max_new_tokens,
        eos_token_id=END,
        pad_token_id=END,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
        repetition_penalty=setting.repetition_penalty,
        no_repeat_ngram_size=setting.no_repeat_ngram_size,
        bad_words_ids=[[letter - ord("a") for letter in word] for word in setting.bad_words] or None,
        **options,
    )
    sequences = [_up_to_end(row[len(setting.prompt) :]) for row in found.sequences.tolist()]
    return sequences, found.sequences_scores.tolist() if "num_beams" in options else None


def _up_to_end(tokens):
    return tuple(tokens[: tokens.index(END) + 1] if END in tokens else tokens)


def random_setting(generator: np.random.Generator) -> Setting:
    """One letter a token, the end token in no prompt."""

    def perhaps(value, default):
        return value if generator.random() < 0.5 else default

    vocab_size = int(generator.integers(4, 7))
    return Setting(
        scores=random_scores(vocab_size, int(generator.integers(2**32))),
        prompt=tuple(generator.integers(1, vocab_size, generator.integers(1, 5)).tolist()),
        token_bytes=[bytes([ord("a") + token]) for token in range(vocab_size)],
        end_id=END,
        max_new_tokens=5,
        repetition_penalty=perhaps(float(generator.uniform(0.5, 3.0)), 1.0),
        no_repeat_ngram_size=perhaps(2, 0),
    )


def test_greedy_gives_what_generate_gives():
    for seed in range(150):
        setting = random_setting(np.random.default_rng(seed))
        path = walk_to_the_end(setting, greedily(rules_of(setting)))
        assert generate(setting, do_sample=False)[0] == [path.tokens], seed


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_beams_give_what_generate_gives(early_stopping):
    for seed in range(150):
        generator = np.random.default_rng(seed)
        setting, num_beams = random_setting(generator), int(generator.integers(2, 5))
        length_penalty = float(generator.choice([-1.0, 0.0, 0.7, 1.0, 2.0]))
        sequences, scores = generate(
            setting,
            do_sample=False,
            num_beams=num_beams,
            num_return_sequences=num_beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
        )
        found = search(setting, num_beams=num_beams, length_penalty=length_penalty, early_stopping=early_stopping)
        assert sequences[: len(found)] == [path.tokens for path in found], seed
        worth = [(path.log_prob - path.lost) / len(path.tokens) ** length_penalty for path in found]
        assert scores[: len(found)] == about(worth), seed


def test_bad_words_are_left_out_as_by_generate():
    """One letter a token, so that its lists of tokens and our texts say the same."""
    for seed in range(150):
        generator = np.random.default_rng(seed)
        setting = random_setting(generator)
        word = bytes(
            generator.integers(ord("b"), ord("a") + len(setting.token_bytes), generator.integers(1, 3)).tolist()
        )
        setting = replace(setting, bad_words=(word,))
        path = walk_to_the_end(setting, greedily(rules_of(setting)))
        assert generate(setting, do_sample=False)[0] == [path.tokens], seed


@pytest.mark.parametrize(
    "filters",
    [
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"temperature": 1.5, "top_k": 15, "top_p": 0.9, "min_p": 0.05},
    ],
    ids=str,
)
def test_a_draw_is_from_the_distribution_of_generate(filters):
    """The same tokens are left, with the same probabilities: each comes up for exactly its share of random numbers."""
    logits = np.random.default_rng(0).normal(scale=2, size=20).astype(np.float32)
    warpers = [
        transformers.TemperatureLogitsWarper(filters.get("temperature", 1.0)),
        *([transformers.TopKLogitsWarper(filters["top_k"])] if "top_k" in filters else []),
        *([transformers.TopPLogitsWarper(filters["top_p"])] if "top_p" in filters else []),
        *([transformers.MinPLogitsWarper(filters["min_p"])] if "min_p" in filters else []),
    ]
    expected = torch.tensor(logits)[None]
    for warper in warpers:
        expected = warper(None, expected)
    options = GenerateOptions(do_sample=True, **filters)
    steps = [draw(logits, options, _Always((index + 0.5) / 4000)) for index in range(4000)]
    shares = np.bincount(steps, minlength=20) / 4000
    assert shares == pytest.approx(torch.softmax(expected[0], dim=0).numpy(), abs=1 / 4000)
    assert torch.isfinite(expected[0])[np.flatnonzero(shares)].all()


class _Always:
    """A generator that gives one number."""

    def __init__(self, number):
        self._number = number

    def random(self):
        return self._number
