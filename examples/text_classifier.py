"""A text classifier on padded batches with `lengths`: no packing, no sorting, no unpacking.

The task: is a line from Python's standard library code or prose (a line of a docstring)? Characters
go through an embedding and a bidirectional LSTM, whose final states are the features. Lines differ
in length, so a batch is padded. `lengths` makes the backward direction start at each line's own
end, and a batch cost its characters and not its padding:

    _, (h, _) = self.lstm(self.embedding(texts), lengths=lengths)

With torch.nn the same takes pack_padded_sequence; the script asserts that it gives the same.

    python examples/text_classifier.py [--quick]
"""

from __future__ import annotations

import argparse
import ast
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

import fastrnn

LONGEST = 80
CODE, PROSE = 0, 1


def labelled_lines(files: int) -> list[tuple[str, int]]:
    """Lines of the first files of the standard library, each with its class."""
    lines: list[tuple[str, int]] = []
    for path in sorted(Path(ast.__file__).parent.glob("*.py"))[:files]:
        source = path.read_text(encoding="utf-8")
        prose = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                prose.update((ast.get_docstring(node, clean=False) or "").splitlines())
        for line in source.splitlines():
            text = line.strip(" \t'\"")[:LONGEST]
            if len(text) > 2 and not text.startswith("#"):
                lines.append((text, PROSE if line in prose else CODE))
    return lines


def balanced(lines: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """As many lines of code as of prose, in random order."""
    draw = random.Random(0)
    draw.shuffle(lines)
    few = min(sum(label == which for _, label in lines) for which in (CODE, PROSE))
    classes = [[line for line in lines if line[1] == which][:few] for which in (CODE, PROSE)]
    both = classes[CODE] + classes[PROSE]
    draw.shuffle(both)
    return both


def as_batch(lines: Sequence[tuple[str, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Padded characters [B, T], lengths [B], classes [B]."""
    texts = [torch.tensor([min(ord(c), 127) for c in text]) for text, _ in lines]
    lengths = torch.tensor([len(text) for text in texts])
    classes = torch.tensor([label for _, label in lines])
    return pad_sequence(texts, batch_first=True), lengths, classes


class Classifier(nn.Module):
    """Embedding, bidirectional LSTM, a linear layer on the final states of both directions."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128, 32)
        self.lstm = fastrnn.LSTM(32, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, 2)

    def forward(self, texts: Tensor, lengths: Tensor) -> Tensor:
        """Logits [B, 2]."""
        _, (h, _) = self.lstm(self.embedding(texts), lengths=lengths)
        return self.out(torch.cat([h[0], h[1]], dim=-1))


def by_packing(model: Classifier, texts: Tensor, lengths: Tensor) -> Tensor:
    """The same logits with torch.nn's layer, which wants the batch packed."""
    lstm = nn.LSTM(32, model.lstm.hidden_size, batch_first=True, bidirectional=True)
    lstm.load_state_dict(model.lstm.state_dict())
    embedded = model.embedding(texts)
    packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
    _, (h, _) = lstm(packed)
    return model.out(torch.cat([h[0], h[1]], dim=-1))


def accuracy(model: Classifier, lines: Sequence[tuple[str, int]]) -> float:
    texts, lengths, classes = as_batch(lines)
    with torch.no_grad():
        return float((model(texts, lengths).argmax(-1) == classes).float().mean())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Tell code from prose.")
    parser.add_argument("--quick", action="store_true", help="a few files, a small model")
    quick = parser.parse_args(arguments).quick
    files, hidden, epochs, batch = (12, 24, 2, 32) if quick else (60, 64, 4, 64)

    torch.manual_seed(0)
    lines = balanced(labelled_lines(files))
    held_out, training = lines[: len(lines) // 10], lines[len(lines) // 10 :]
    real = sum(len(text) for text, _ in training)
    print(f"{len(training)} lines to learn from, {len(held_out)} held out")

    model = Classifier(hidden)
    texts, lengths, _ = as_batch(training[:batch])
    torch.testing.assert_close(model(texts, lengths), by_packing(model, texts, lengths))
    print("logits are those of torch.nn on a packed batch")

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    padded = 0
    for epoch in range(epochs):
        random.Random(epoch).shuffle(training)
        for first in range(0, len(training), batch):
            texts, lengths, classes = as_batch(training[first : first + batch])
            padded += texts.numel()
            loss = nn.functional.cross_entropy(model(texts, lengths), classes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: accuracy {accuracy(model, held_out):.3f} on held-out lines")
    print(f"{epochs * real / padded:.0%} of the characters in the batches were not padding")
    print(f"text_classifier: accuracy {accuracy(model, held_out):.3f}")


if __name__ == "__main__":
    main()
