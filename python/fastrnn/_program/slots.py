"""Where the engine has a program's pre-activations, and the program's graph on these slots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial, reduce
from typing import NamedTuple

from .equations import Equations
from .graph import Graph, Node, reachable

__all__ = ["OnSlots", "Slots", "on_slots"]


class Slots(NamedTuple):
    """The pre-activations of a unit.

    ``gates`` is the gate of each slot; ``inputs`` the first slot and the number of those that the
    input's product adds to, ``products`` the same of each recurrent one. ``pre``, ``input`` and
    ``hidden`` are the slots by gate: of both shares together, of the input's, of the recurrent one.
    """

    gates: tuple[str, ...]
    inputs: tuple[int, int]
    products: tuple[tuple[int, int], ...]
    pre: Mapping[str, int]
    input: Mapping[str, int]
    hidden: Mapping[str, int]


class OnSlots(NamedTuple):
    """A program's graph with sources "pre", "input" and "hidden" for its "x" and "u".

    ``operands`` are those of the products 1, 2 ..; the first state meets product 0, or it is an
    operand itself if something else is put out.
    """

    slots: Slots
    graph: Graph
    operands: tuple[int, ...]
    results: tuple[int, ...]


def on_slots(program: Equations) -> OnSlots:
    """A program as the engine's slots have it, shorter where no result changes but by rounding."""
    later = len(program.operands)
    nodes, found = _shares_first(program.nodes, [*program.operands, *program.internal_results])
    operands, results, products = found[:later], found[later:], list(program.products)
    index = {node: place for place, node in enumerate(nodes)}
    if program.output is not None:
        first = Node("s", name=program.states[0])
        operands.insert(0, index.get(first, len(nodes)))
        nodes += [] if first in index else [first]
        products.insert(0, ())
    used = [tuple(g for g in gates if Node("u", name=g) in index) for gates in products]
    there = [0, *(place for place in range(1, len(used)) if used[place])]
    operands = [operands[place - 1] for place in there[1:]]
    products = [used[place] for place in there]
    both = _both(nodes, [*operands, *results])
    slots = _slots(
        program.gates, products, {node.name for node in nodes if node.operation == "x"}, both
    )
    graph, place = _rebuilt(nodes, slots, [*operands, *results])
    return OnSlots(
        slots,
        graph,
        tuple(place[one] for one in operands),
        tuple(place[one] for one in results),
    )


def _shares_first(nodes: Sequence[Node], results: Sequence[int]) -> tuple[list[Node], list[int]]:
    """The nodes with both shares of a gate added before all else that a sum has.

    Then they are one pre-activation, as in x.f + u.f + p.w * s.c, whatever the user's order.
    """
    uses, graph, place = _uses(nodes, results), Graph(), dict[int, int]()

    def terms_of(index: int) -> list[int]:
        inner = nodes[index].operation == "add" and len(uses[index]) == 1
        return [t for one in nodes[index].operands for t in terms_of(one)] if inner else [index]

    for index, node in enumerate(nodes):
        if not node.operands:
            constant = node.operation == "constant"
            own = graph.constant(node.value) if constant else graph.source(*node[::2])
            place[index] = own
            continue
        place[index] = graph.apply(node.operation, *(place[one] for one in node.operands))
        terms = [term for one in node.operands for term in terms_of(one)]
        alone = {nodes[t]: t for t in terms if len(uses[t]) == 1 and terms.count(t) == 1}
        pairs = [
            (alone[Node("x", name=one.name)], t)
            for one, t in alone.items()
            if one.operation == "u" and Node("x", name=one.name) in alone
        ]
        if node.operation == "add" and pairs and len(terms) > 2:
            paired = {term for pair in pairs for term in pair}
            sums = [graph.apply("add", place[x], place[u]) for x, u in pairs]
            sums += [place[term] for term in terms if term not in paired]
            place[index] = reduce(partial(graph.apply, "add"), sums)
    kept = list(reachable(graph.nodes, (place[result] for result in results)))
    new = {old: number for number, old in enumerate(kept)}
    renumbered = [
        graph[old]._replace(operands=tuple(new[one] for one in graph[old].operands)) for old in kept
    ]
    return renumbered, [new[place[result]] for result in results]


def _uses(nodes: Sequence[Node], results: Iterable[int]) -> dict[int, list[int]]:
    """Who reads each node; a result has -1 among them."""
    uses: dict[int, list[int]] = {index: [] for index in range(len(nodes))}
    for index, node in enumerate(nodes):
        for operand in node.operands:
            uses[operand].append(index)
    for result in results:
        uses[result].append(-1)
    return uses


def _both(nodes: Sequence[Node], results: Iterable[int]) -> set[str]:
    """The gates whose two shares are there only as their sum."""
    uses = _uses(nodes, results)
    found = set()
    for index, node in enumerate(nodes):
        shares = [nodes[one] for one in node.operands]
        if (
            node.operation == "add"
            and {share.operation for share in shares} == {"x", "u"}
            and len({share.name for share in shares}) == 1
            and all(uses[one] == [index] for one in node.operands)
        ):
            found.add(shares[0].name)
    return found


def _slots(
    gates: Sequence[str], products: Sequence[Sequence[str]], of_input: set[str], both: set[str]
) -> Slots:
    """The first product that has gates may have some of both shares and some of its own."""
    lead = next((place for place, product in enumerate(products) if product), 0)
    first, later = products[lead], [*products[:lead], *products[lead + 1 :]]
    together = [gate for gate in first if gate in both]
    whole = [product for product in later if product and set(product) <= both]
    apart = [product for product in later if not set(product) <= both]
    summed = [gate for product in whole for gate in product]
    alone = [gate for gate in first if gate not in both]
    inputs = [gate for gate in gates if gate in of_input and gate not in {*together, *summed}]
    ranges, order = {}, [*alone, *together]
    for product in whole:
        ranges[tuple(product)] = (len(order), len(product))
        order += product
    order += inputs
    for product in apart:
        ranges[tuple(product)] = (len(order), len(product))
        order += product
    at = len(alone) + len(together)
    input_slots = {gate: at + place for place, gate in enumerate([*summed, *inputs])}
    hidden = {gate: start + k for p, (start, _) in ranges.items() for k, gate in enumerate(p)}
    hidden |= {gate: place for place, gate in enumerate(alone)}
    of_both = {gate: len(alone) + place for place, gate in enumerate(together)}
    ranges[tuple(first)] = (0, at)
    return Slots(
        gates=tuple(order),
        inputs=(len(alone), len(together) + len(input_slots)),
        products=tuple(ranges[tuple(product)] if product else (0, 0) for product in products),
        pre={} if lead else of_both,
        input=input_slots | of_both if lead else input_slots,
        hidden=hidden | of_both if lead else hidden,
    )


def _rebuilt(
    nodes: Sequence[Node], slots: Slots, results: Sequence[int]
) -> tuple[Graph, Mapping[int, int]]:
    """The nodes on slots, and where each has gone."""
    graph, place = Graph(), {}
    uses = _uses(nodes, results)
    for index, node in enumerate(nodes):
        mixed = _mixture(nodes, uses, node)
        shares = {nodes[one].operation for one in node.operands}
        if node.operation == "constant":
            place[index] = graph.constant(node.value)
        elif not node.operands:
            kind = {"x": "input", "u": "hidden"}.get(node.operation, node.operation)
            place[index] = graph.source(kind, node.name)
        elif shares == {"x", "u"} and nodes[node.operands[0]].name in slots.pre:
            place[index] = graph.source("pre", nodes[node.operands[0]].name)
        elif mixed is not None:
            weight, a, b = (place[one] for one in mixed)
            product = graph.apply("mul", weight, graph.apply("sub", a, b))
            place[index] = graph.apply("add", b, product)
        else:
            operands = (place[one] for one in node.operands)
            place[index] = graph.apply(node.operation, *operands)
    return graph, place


def _mixture(
    nodes: Sequence[Node], uses: Mapping[int, list[int]], node: Node
) -> tuple[int, int, int] | None:
    """w, a, b of w * a + (1 - w) * b where b is finite, so that b + w * (a - b) says the same."""
    terms = [nodes[one] for one in node.operands]
    if node.operation != "add" or any(term.operation != "mul" for term in terms):
        return None
    if any(len(uses[one]) > 1 for one in node.operands):
        return None
    found = []
    for first, second in (terms, terms[::-1]):
        for w, a in (first.operands, first.operands[::-1]):
            for v, b in (second.operands, second.operands[::-1]):
                opposite = nodes[v] == Node("one_minus", (w,)), nodes[w] == Node("one_minus", (v,))
                if any(opposite) and nodes[b].operation in ("sigmoid", "tanh"):
                    found.append((opposite[1], w, a, b))
    return min(found)[1:] if found else None
