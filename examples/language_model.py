"""A language model that learns from text and then writes some.

Two recurrent layers predict each character, or word, from those before it. What Penn Treebank
models do is here in its plainest form:
- tied embeddings: the matrix that turns a token into a vector also tells the next token;
- variational dropout (Gal and Ghahramani 2016), which AWD-LSTM (Merity et al. 2018) calls locked:
  one mask for all steps of a window;
- by choice AWD-LSTM's dropped weights (`--weight-dropout 0.5`) and zoneout (`--zoneout 0.1`);
- truncated back-propagation: the state goes from window to window, the gradient does not.

The default text is on every machine: the sources of Python's standard library, by characters.
`--data DIR` reads ptb.train.txt, ptb.valid.txt and ptb.test.txt, by words unless `--level` says
otherwise. What has to be beaten is the perplexity of a model that knows the frequencies alone.
`--beside` trains the same model once more without any of these, and draws both curves. `--formats`
tells what is left of the perplexity when the layers are frozen in bfloat16 or int8.

    python examples/language_model.py [--quick] [--cell gru] [--data DIR] [--prompt TEXT] [--beside]
"""

from __future__ import annotations

import argparse
import math
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import common
from common import DataFileError, Learner, Result, Schedule

UNKNOWN, END = "<unk>", "<eos>"
RATES = ("dropout", "weight_dropout", "zoneout")
PARTS = ("train", "valid", "test")
WINDOW, BATCH = 64, 32


@dataclass(frozen=True)
class Corpus:
    """Texts as numbers [N], the number of each token, and whether tokens are words."""

    texts: dict[str, Tensor]
    vocabulary: dict[str, int]
    words: bool

    def decode(self, numbers: Sequence[int]) -> str:
        found = [list(self.vocabulary)[number] for number in numbers]
        return " ".join(found).replace(END, "\n") if self.words else "".join(found)


def tokens(text: str, words: bool) -> list[str]:
    return text.replace("\n", f" {END} ").split() if words else list(text)


def encode(text: list[str], vocabulary: dict[str, int]) -> Tensor:
    return torch.tensor([vocabulary.get(token, vocabulary[UNKNOWN]) for token in text])


def load(options: argparse.Namespace) -> Corpus:
    """Penn Treebank's files, or the standard library's sources."""
    words = options.level == "word" if options.level else options.data is not None
    texts = penn_treebank(options.data) if options.data else standard_library(options.quick)
    parts = {name: tokens(text, words) for name, text in texts.items()}
    shortest = min(parts, key=lambda name: len(parts[name]))
    if (found := len(parts[shortest])) < (needed := BATCH * (WINDOW + 1)):
        raise DataFileError(f"{shortest}: expected {needed} tokens or more, found {found}")
    known = sorted({UNKNOWN, *parts["train"]})
    vocabulary = dict(zip(known, range(len(known)), strict=True))
    encoded = {name: encode(part, vocabulary) for name, part in parts.items()}
    return Corpus(encoded, vocabulary, words)


def penn_treebank(folder: Path) -> dict[str, str]:
    try:
        return {part: (folder / f"ptb.{part}.txt").read_text(encoding="utf-8") for part in PARTS}
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(f"cannot read Penn Treebank from {folder}: {error}") from error


def standard_library(quick: bool) -> dict[str, str]:
    """The modules in alphabetical order, eight of ten characters to learn from."""
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    sources = (path.read_text(encoding="utf-8", errors="ignore") for path in modules)
    text = "".join(sources)[: 300_000 if quick else 1_000_000]
    first, second = int(0.8 * len(text)), int(0.9 * len(text))
    return {"train": text[:first], "valid": text[first:second], "test": text[second:]}


class VariationalDropout(nn.Dropout):
    """Dropout with one mask for all steps of x [T, B, H]: what is dropped stays so."""

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(torch.ones_like(x[:1]))


class LanguageModel(nn.Module):
    """Embedding, two recurrent layers, and the embedding again; dropout between all of them."""

    def __init__(self, options: argparse.Namespace, vocabulary: int) -> None:
        super().__init__()
        hidden = 128 if options.quick else 256
        self.embedding = nn.Embedding(vocabulary, hidden)
        nn.init.normal_(self.embedding.weight, std=hidden**-0.5)
        chosen = {"weight_dropout": options.weight_dropout, "zoneout": options.zoneout}
        chosen = {name: rate for name, rate in chosen.items() if rate}
        self.layers = nn.ModuleList(
            common.make_layer(options, hidden, hidden, **chosen) for _ in range(2)
        )
        self.dropout = VariationalDropout(options.dropout)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, text: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits [T, B, V] and the state after, of tokens [T, B] and the state before."""
        x = self.dropout(self.embedding(text))
        after = []
        for layer, before in zip(self.layers, state or (None, None), strict=True):
            y, new = layer(x, before)
            x = self.dropout(y)
            after.append(new)
        return nn.functional.linear(x, self.embedding.weight, self.bias), after


def detach(state: Any) -> Any:
    return state.detach() if isinstance(state, Tensor) else tuple(map(detach, state))


@dataclass
class Reader:
    """The loss of one window after another, with the state carried between them."""

    model: nn.Module
    state: Any = None

    def __call__(self, window: tuple[int, Tensor, Tensor]) -> Tensor:
        number, text, target = window
        logits, state = self.model(text, self.state if number else None)
        self.state = detach(state)
        return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def windows(text: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    """BATCH parts of the text side by side, cut up: number, tokens [T, B] and the next [T, B]."""
    columns = text[: len(text) // BATCH * BATCH].view(BATCH, -1).t().contiguous()
    starts = range(0, len(columns) - WINDOW, WINDOW)
    pieces = [columns[start : start + WINDOW + 1] for start in starts]
    return [(number, piece[:-1], piece[1:]) for number, piece in enumerate(pieces)]


def unigram_perplexity(corpus: Corpus) -> float:
    """Of a model that knows how often each token is, and no more."""
    counts = torch.bincount(corpus.texts["train"], minlength=len(corpus.vocabulary)) + 1.0
    return float((-(counts / counts.sum()).log()[corpus.texts["test"]]).mean().exp())


@torch.no_grad()
def generate(model: LanguageModel, prompt: Tensor, length: int, temperature: float) -> list[int]:
    written, state, text = [], None, prompt.unsqueeze(1)
    for _ in range(length):
        logits, state = model(text, state)
        text = torch.multinomial((logits[-1] / temperature).softmax(-1), 1)
        written.append(int(text))
    return written


def learn(
    options: argparse.Namespace, corpus: Corpus, title: str
) -> tuple[LanguageModel, common.Curves, float]:
    """A model that has been trained, its curves, and its perplexity on the last part."""
    torch.manual_seed(options.seed)
    model = LanguageModel(options, len(corpus.vocabulary))
    parts = {name: windows(text) for name, text in corpus.texts.items()}
    learner = Learner(model, parts["train"], parts["valid"], Reader(model))
    epochs = options.epochs or (3 if options.quick else 6)
    schedule = Schedule(epochs, learning_rate=3e-3, patience=2)
    curves = common.fit(learner, schedule, title)
    return model, curves, perplexity_of(model, parts["test"])


def perplexity_of(model: nn.Module, text: Sequence[tuple[int, Tensor, Tensor]]) -> float:
    return math.exp(common.mean_loss(Learner(model, (), (), Reader(model)), text))


def example(options: argparse.Namespace) -> Result:
    corpus = load(options)
    title = f"language model, {options.cell}"
    model, curves, perplexity = learn(options, corpus, title)
    everything, details = {"text": curves}, dict[str, Any]()
    if options.beside:
        plain = argparse.Namespace(**vars(options) | dict.fromkeys(RATES, 0.0))
        _, everything["without"], details["without"] = learn(plain, corpus, f"{title}, without")
    if options.formats:
        test = windows(corpus.texts["test"])
        measure = lambda one: perplexity_of(one, test)  # noqa: E731
        details["formats"] = common.measure_formats(model, "perplexity", measure)

    prompt = encode(tokens(options.prompt, corpus.words), corpus.vocabulary)
    written = corpus.decode(generate(model, prompt, options.length, options.temperature))
    print(f"{options.prompt}{written}\n")
    figure = Figure(figsize=(6, 4), layout="constrained")
    drawn = {name: curves[name] for name in ("training", "validation")}
    if options.beside:
        drawn["validation without"] = everything["without"]["validation"]
    common.plot_curves(figure.subplots(), drawn, *drawn)
    figure.suptitle("cross-entropy, nats a token", fontsize=10)
    figures = perplexity, unigram_perplexity(corpus)
    return Result("perplexity", *figures, everything, {"written": written, **details}, figure)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="Penn Treebank's ptb.*.txt")
    parser.add_argument("--level", choices=["char", "word"])
    parser.add_argument("--dropout", type=common.rate, default=0.1, metavar="P")
    parser.add_argument("--weight-dropout", type=common.rate, default=0.0, metavar="P")
    parser.add_argument("--zoneout", type=common.rate, default=0.0, metavar="P")
    parser.add_argument("--beside", action="store_true", help="train without any of the three, too")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.make_parser("Learn from text, then write some.")
    add_options(parser)
    parser.add_argument("--prompt", default="def ", help="what the written text begins with")
    parser.add_argument("--length", type=common.count, default=400, help="of it, in tokens")
    parser.add_argument("--temperature", type=float, default=0.7, help="low: the likely tokens")
    common.add_formats_option(parser)
    options = parser.parse_args(arguments)
    common.check_formats_option(parser, options)
    if not options.prompt or not options.temperature > 0:  # nor nan
        parser.error("expected a prompt and a positive temperature")
    if options.backend != "fastrnn" and (options.weight_dropout or options.zoneout):
        parser.error("--weight-dropout and --zoneout: torch.nn has no layers with them")
    common.run("language_model", example, options)


if __name__ == "__main__":
    main()
