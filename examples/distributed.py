"""The language model in several processes: DDP, gradient accumulation, checkpoint and resume.

Every process (rank) reads parts of the text of its own and carries its own states; after each step
all have the mean of all gradients. A step takes several windows (`--accumulate`), and only the last
of them makes the processes talk to each other. What is learned depends on how many windows a step
has in all, not on how they are spread: two processes with one window each learn what one process
learns from two.

A checkpoint holds all that the next step depends on: weights, optimiser, the place in the text, the
states and the random numbers of every rank, and the curve so far. It is written beside its place
and then moved there, so that at every moment there is a whole one. Kill the run when you like and
start it again with the same `--out`: the curve goes on as if nothing had been.

    torchrun --nproc-per-node 2 examples/distributed.py --quick --out DIR [--device cuda]
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import pickle
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import trange

import common
from common import DataFileError, Learner, Result
from language_model import LanguageModel, Reader, add_options, load, unigram_perplexity, windows

LEARNING_RATE, CLIP = 3e-3, 1.0


class Training:
    """One rank's model and parts of the text, and how far it has come.

    Attributes
    ----------
    parts : the windows of each part of the text, as many parts as windows in a step.
    losses : of every step so far, the mean over all ranks.
    resumed : steps at which a killed run went on.
    """

    def __init__(self, options: argparse.Namespace, text: Tensor, vocabulary: int) -> None:
        on_gpu = options.device == "cuda"
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else "cpu"
        torch.manual_seed(options.seed)
        self.model = LanguageModel(options, vocabulary).to(self.device)
        self.parallel = DistributedDataParallel(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        rank, count = dist.get_rank(), options.accumulate
        length = len(text) // (dist.get_world_size() * count)
        mine = text[rank * count * length : (rank + 1) * count * length].to(self.device)
        self.parts = [windows(part) for part in mine.split(length)]
        self.readers = [Reader(self.parallel) for _ in self.parts]
        self.losses: list[float] = []
        self.resumed: list[int] = []
        self.random = (
            torch.cuda.default_generators[self.device.index] if on_gpu else torch.default_generator
        )
        self.random.manual_seed(options.seed + rank)  # other dropout masks on every rank

    def step(self) -> None:
        """Learn from the next window of every part."""
        self.model.train()
        window = len(self.losses) % len(self.parts[0])
        mean = torch.zeros((), device=self.device)
        for reader, part in zip(self.readers, self.parts, strict=True):
            last = part is self.parts[-1]
            with contextlib.nullcontext() if last else self.parallel.no_sync():
                loss = reader(part[window]) / len(self.parts)
                loss.backward()
            mean += loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        dist.all_reduce(mean)
        self.losses.append(float(mean) / dist.get_world_size())

    def save(self, path: Path) -> None:
        """Put a checkpoint of all ranks in the place of the one before, at once or not at all."""
        mine = {"states": [r.state for r in self.readers], "random": self.random.get_state()}
        ranks = [mine] * dist.get_world_size()
        dist.all_gather_object(ranks, mine)
        if dist.get_rank() == 0:
            checkpoint = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "losses": self.losses,
                "resumed": self.resumed,
                "ranks": ranks,
            }
            partial = path.with_suffix(".partial")
            torch.save(checkpoint, partial)
            partial.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        DataFileError
            It cannot be read, or is another model's or another number of processes'.
        """
        try:
            checkpoint = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(checkpoint["model"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
        except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise DataFileError(f"cannot go on from {path}: {error}") from error
        ranks = checkpoint["ranks"]
        found = (len(ranks), len(ranks[0]["states"]))
        wanted = (dist.get_world_size(), len(self.parts))
        if found != wanted:
            raise DataFileError(
                f"{path}: expected a checkpoint of {wanted} processes and windows, found {found}"
            )
        mine = ranks[dist.get_rank()]
        for reader, state in zip(self.readers, mine["states"], strict=True):
            reader.state = state
        self.random.set_state(mine["random"].cpu())
        self.losses = checkpoint["losses"]
        self.resumed = [*checkpoint["resumed"], len(self.losses)]


def example(options: argparse.Namespace) -> Result:
    corpus = load(options)
    training = Training(options, corpus.texts["train"], len(corpus.vocabulary))
    path = options.out / "checkpoint.pt"
    if path.exists():
        training.restore(path)
    first = len(training.losses)
    epochs = options.epochs or (4 if options.quick else 8)
    last = options.steps or epochs * len(training.parts[0])
    begin = time.perf_counter()
    for step in trange(first, last, disable=None if dist.get_rank() == 0 else True):
        training.step()
        if (step + 1) % options.save_every == 0:
            training.save(path)
    seconds = time.perf_counter() - begin

    test = windows(corpus.texts["test"].to(training.device))
    learner = Learner(training.model, (), (), Reader(training.model))
    figures = math.exp(common.mean_loss(learner, test)), unigram_perplexity(corpus)
    details = {
        "processes": dist.get_world_size(),
        "steps_an_epoch": len(training.parts[0]),
        "resumed": training.resumed,
        "step_ms": 1e3 * seconds / max(1, last - first),
    }
    curves = {"text": {"training": training.losses}}
    return Result("perplexity", *figures, curves, details, draw(training))


def draw(training: Training) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(training.losses, color=common.COLOURS[0], label="training")
    for step in training.resumed:
        axes.axvline(step, color=common.COLOURS[1], label="killed, and resumed here")
    axes.set(xlabel="step", ylabel="cross-entropy, nats a token")
    common.style(axes)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.make_parser("Learn from text in several processes.")
    add_options(parser)
    parser.add_argument(
        "--accumulate", type=common.count, default=2, metavar="WINDOWS", help="of a rank's step"
    )
    parser.add_argument("--steps", type=common.count, help="to end after, in place of epochs")
    parser.add_argument("--save-every", type=common.count, default=10, metavar="STEPS")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="gloo or nccl")
    options = parser.parse_args(arguments)
    if "LOCAL_RANK" not in os.environ:
        parser.error("run it by torchrun --nproc-per-node 2 examples/distributed.py ...")
    if options.backend == "both" or not options.out:
        parser.error("needs --out, and one --backend")
    if options.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    options.out.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("nccl" if options.device == "cuda" else "gloo")
    result = common.train("distributed", example, options)
    if dist.get_rank() == 0:
        common.finish("distributed", options, result)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
