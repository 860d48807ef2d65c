"""From a program to what the engine interprets: forward and backward in instructions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .equations import Equations
from .graph import Node
from .joint import OF_SLOTS, Joint, constant, constants, joint_of, saved_of
from .slots import Slots, on_slots
from .stages import Code, Sink, written

__all__ = ["Lowered", "engine_arguments", "lowered"]


class Lowered(NamedTuple):
    """A program as instructions, and what of it the engine has to know besides.

    Of a constant ``constants`` says, too, whether it is for a single unit, to be multiplied with H.
    """

    program: Equations
    slots: Slots
    constants: tuple[tuple[float, bool], ...]
    forward: Code
    forward_saving: Code
    backward: Code


@lru_cache(maxsize=256)
def lowered(program: Equations) -> Lowered:
    """The instructions of a program."""
    base = on_slots(program)
    joint = joint_of(base)
    forward = _Forward(program, base.slots, joint)
    saving = forward.code(forward.saved)
    return Lowered(
        program=program,
        slots=base.slots,
        forward=forward.code(()),
        forward_saving=saving,
        backward=_Backward(program, base.slots, joint, saving.places).code(),
        constants=tuple(constant(joint, index) for index in forward.constants),
    )


@lru_cache(maxsize=256)
def engine_arguments(program: Equations, hidden_size: int) -> dict[str, Any]:
    """The keyword arguments of ``_core.Program``."""
    low = lowered(program)
    slots = low.slots
    widths = [hidden_size if per_unit else 1 for _, per_unit in program.inputs]
    return {
        "gates": len(program.gates),
        "states": len(program.internal_states),
        "held": len(program.held),
        "slots": len(slots.gates),
        "gate_of_slot": [program.gates.index(gate) for gate in slots.gates],
        "input_slots": slots.inputs,
        "products": list(slots.products),
        "vectors": len(program.vector_slots),
        "extras": [(sum(widths[:k]), unit) for k, (_, unit) in enumerate(program.inputs)],
        "heads": program.heads,
        "recurrent": program.has_recurrent,
        "initial": list(program.internal_initial),
        "constants": [value * hidden_size if unit else value for value, unit in low.constants],
        "kept": low.forward.stored,
        "saved": low.forward_saving.stored,
        "temps": low.backward.stored,
        "sums": (low.forward.sums, low.backward.sums),
        "forward": low.forward.stages,
        "forward_saving": low.forward_saving.stages,
        "backward": low.backward.stages,
    }


class _Direction:
    """What the two passes have in common: sources that are there in every stage, and sums."""

    def __init__(self, program: Equations, slots: Slots, joint: Joint) -> None:
        self.program, self.slots, self.joint = program, slots, joint
        self.constants = {index: number for number, index in enumerate(constants(joint))}
        self.product_of = {
            gate: product
            for product, (first, count) in enumerate(slots.products)
            for gate in slots.gates[first : first + count]
        }
        self.stage_of: dict[int, int] = {}  # of each product
        self.levels: dict[int, int] = {}
        self.sums: dict[int, int] = {}

    def lasting(self, index: int) -> tuple[str, int] | None:
        """What reads a source that is there in every stage."""
        node = self.joint.nodes[index]
        if index in self.constants:
            return "constant", self.constants[index]
        if node.operation == "s":
            return "state", self.program.internal_states.index(node.name)
        if node.operation == "p":
            return "vector", self.program.vector_slots.index(node.name)
        if node.operation == "e":
            return "extra", [name for name, _ in self.program.inputs].index(node.name)
        if index in self.sums:
            return "sum", self.sums[index]
        return None

    def known(self, index: int) -> bool:
        """Whether the pass reads a node that has operands, instead of computing it."""
        return index in self.constants

    def first_stage(self, node: Node) -> int:
        """Of a source, the stage that has it first."""
        return 0

    def find_levels(self) -> None:
        """The first stage in which each node can be computed."""
        for index, node in enumerate(self.joint.nodes):
            level = self.first_stage(node)
            if not self.known(index):
                level = max([level, *(self.levels[operand] for operand in node.operands)])
                level += node.operation == "row_sum"
            self.levels[index] = level

    def needed(self, results: Iterable[int]) -> set[int]:
        """What is computed for some results."""
        found: set[int] = set()
        waiting = list(results)
        while waiting:
            index = waiting.pop()
            if index not in found:
                found.add(index)
                waiting += () if self.known(index) else self.joint.nodes[index].operands
        return found

    def fused(self, results: Iterable[int], apart: Iterable[int] = ()) -> dict[int, int]:
        """Of a sum, the product in it that nothing else reads, and that need not be apart.

        Both forward passes fuse the same, so that they give the same bits.
        """
        nodes, needed = self.joint.nodes, self.needed(results)
        uses = Counter([*results, *apart])
        for index in needed:
            uses.update(() if self.known(index) else nodes[index].operands)
        found = {}
        for index in needed:
            for operand in nodes[index].operands if nodes[index].operation == "add" else ():
                alone = uses[operand] == 1 and nodes[operand].operation == "mul"
                here = self.levels[operand] == self.levels[index] and not self.known(operand)
                if alone and here:
                    found[index] = operand
        return found

    def sums_of(self, results: Iterable[int]) -> list[tuple[int, Sink]]:
        """Number the sums that some results need; the stages that add them up."""
        nodes = self.joint.nodes
        found = sorted(
            index
            for index in self.needed(results)
            if nodes[index].operation == "row_sum" and not self.known(index)
        )
        self.sums = {index: number for number, index in enumerate(found)}
        return [
            (self.levels[index] - 1, Sink("add_to_sum", number, nodes[index].operands[0]))
            for index, number in self.sums.items()
        ]


def _by_stage(sinks: Iterable[tuple[int, Sink]], stages: int) -> list[list[Sink]]:
    return [[sink for stage, sink in sinks if stage == number] for number in range(stages)]


class _Forward(_Direction):
    def __init__(self, program: Equations, slots: Slots, joint: Joint) -> None:
        super().__init__(program, slots, joint)
        self.saved = saved_of(joint)
        self.input_stage = 0

    def first_stage(self, node: Node) -> int:
        if node.operation == "input":
            return self.input_stage
        return self.stage_of.get(self.product_of[node.name], 0) if node.operation == "hidden" else 0

    def stage_that_reads_input(self, results: Sequence[int]) -> int:
        """The first one that computes with the input's share, which need not be kept for it."""
        nodes = self.joint.nodes
        needed = self.needed(results)
        if any(nodes[index].operation == "pre" for index in needed):
            return 0
        if any(nodes[index].operation == "input" for index in self.joint.operands):
            return 0
        found = (
            self.levels[index] - (nodes[index].operation == "row_sum")
            for index in needed
            if any(nodes[operand].operation == "input" for operand in nodes[index].operands)
        )
        return min(found, default=0)

    def code(self, saved: Sequence[int]) -> Code:
        """Its stages, with what is saved kept to the end."""
        self.stage_of, self.input_stage = {0: 0} if self.slots.products[0][1] else {}, 0
        self.find_levels()
        for product, operand in enumerate(self.joint.operands, 1):
            after = self.stage_of.get(product - 1, 0)
            self.stage_of[product] = 1 + max(self.levels[operand], after)
            self.find_levels()
        operands, results = self.joint.operands, self.joint.results
        self.input_stage = self.stage_that_reads_input([*operands, *results])
        self.find_levels()
        sinks = [
            (self.levels[operand], Sink("set_operand", product, operand))
            for product, operand in enumerate(operands, 1)
        ]
        sinks += self.sums_of([*operands, *results, *saved])
        last = max(self.levels[node] for node in (*results, *saved, *operands))
        last = max([last, *self.stage_of.values()])
        set_by_step = results[: len(results) - len(self.program.held)]
        sinks += [(last, Sink("set_state", k, result)) for k, result in enumerate(set_by_step)]
        product_in = {stage: product for product, stage in self.stage_of.items()}
        return written(
            self.joint.nodes,
            self.levels,
            self._source,
            _by_stage(sinks, 1 + last),
            [product_in.get(stage, -1) for stage in range(1 + last)],
            ("keep", "kept"),
            self.fused([*operands, *results], self.saved),
            saved,
        )

    def _source(self, index: int, stage: int) -> tuple[str, int] | None:
        node = self.joint.nodes[index]
        if node.operation in OF_SLOTS:
            slot = getattr(self.slots, node.operation)[node.name]
            return (node.operation, slot) if self.levels[index] == stage else None
        slots = self._slots_of_shares(node, stage)
        if len(slots) == 2 and slots["input"] == slots["hidden"]:
            return "pre", slots["input"]
        return self.lasting(index)

    def _slots_of_shares(self, node: Node, stage: int) -> dict[str, int]:
        """Of a sum of two shares that a stage has, the slot of each by kind."""
        if node.operation != "add":
            return {}
        shares = [(self.joint.nodes[one], self.levels[one]) for one in node.operands]
        return {
            share.operation: getattr(self.slots, share.operation)[share.name]
            for share, level in shares
            if share.operation in ("input", "hidden") and level == stage
        }


class _Backward(_Direction):
    def __init__(
        self,
        program: Equations,
        slots: Slots,
        joint: Joint,
        kept: Mapping[int, int],
    ) -> None:
        super().__init__(program, slots, joint)
        self.kept = kept

    def known(self, index: int) -> bool:
        there = index in self.kept or index in self.joint.results
        return there or super().known(index)

    def first_stage(self, node: Node) -> int:
        return 1 + self.stage_of.get(int(node.name), 0) if node.operation == "d_operand" else 0

    def code(self) -> Code:
        """Its stages."""
        d_pre = self._of_slots()
        self.find_levels()
        for product in range(len(self.slots.products) - 1, 0, -1):
            first, count = self.slots.products[product]
            slots = range(first, first + count)
            levels = [self.levels[node] for slot, node in d_pre if slot in slots]
            self.stage_of[product] = max(1 + self.stage_of.get(product + 1, -1), *levels)
            self.find_levels()
        sinks = [(self.levels[node], Sink("set_d_pre", slot, node)) for slot, node in d_pre]
        for number, name in enumerate(self.program.vector_slots):
            gradient = self.joint.gradients.get(("p", name))
            if gradient is not None:
                sinks.append((self.levels[gradient], Sink("add_d_vector", number, gradient)))
        for number, (name, _) in enumerate(self.program.inputs):
            gradient = self.joint.gradients.get(("e", name))
            if gradient is not None:
                sinks.append((self.levels[gradient], Sink("add_d_extra", number, gradient)))
        states = self._of_states()
        sinks += self.sums_of([*(sink.node for _, sink in sinks), *(node for _, node in states)])
        last = max([0, *(stage for stage, _ in sinks), *(self.levels[n] for _, n in states)])
        last = max([last, *self.stage_of.values()])
        if self.slots.products[0][1]:
            last = max([last, *(1 + stage for stage in self.stage_of.values())])
            self.stage_of[0] = last
        sinks += [(last, Sink("set_d_state", state, node)) for state, node in states]
        product_in = {stage: product for product, stage in self.stage_of.items()}
        return written(
            self.joint.nodes,
            self.levels,
            self._source,
            _by_stage(sinks, 1 + last),
            [product_in.get(stage, -1) for stage in range(1 + last)],
            ("set_temp", "temp"),
            self.fused([sink.node for _, sink in sinks]),
        )

    def _of_slots(self) -> list[tuple[int, int]]:
        """The gradients of the slots."""
        gradients, zero = self.joint.gradients, self.joint.zero
        found = {  # a slot of both shares has the same gradient by either name
            slot: gradients.get((kind, gate), zero)
            for kind in OF_SLOTS
            for gate, slot in getattr(self.slots, kind).items()
        }
        return list(found.items())

    def _of_states(self) -> list[tuple[int, int]]:
        """The gradients of the states before the step that no product gives alone.

        A held state's grows where it lies.
        """
        found = []
        for number, name in enumerate(self.program.internal_states):
            gradient = self.joint.gradients.get(("s", name))
            if gradient is None and not number and self.slots.products[0][1]:
                continue
            own = self.joint.zero if gradient is None else gradient
            if name not in self.program.held or self.joint.nodes[own].operation != "d_state":
                found.append((number, own))
        return found

    def _source(self, index: int, stage: int) -> tuple[str, int] | None:
        node = self.joint.nodes[index]
        if node.operation in ("d_state", "d_operand"):
            return node.operation, int(node.name)
        lasting = self.lasting(index)
        if lasting is not None:
            return lasting
        if index in self.kept:
            return "kept", self.kept[index]
        return ("after", self.joint.results.index(index)) if index in self.joint.results else None
