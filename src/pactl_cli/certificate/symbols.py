"""The code of a sequence over 0 .. K-1, as adaptive binary decisions.

A symbol is a path through a tree, with one binary decision at each node. Every node learns the probability of its
decision from its earlier decisions, by the estimator P(next = b) = (count_b + 1/2) / (seen + 1) (Krichevsky and
Trofimov 1981). So no counts are transmitted, a node that is never visited costs nothing, and a node visited m times
costs at most (log2 m) / 2 + 1 bits more than with known frequencies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from pactl_cli.certificate.codes import BitReader, BitWriter, DecisionReader, encode_decisions

Symbols = NDArray[np.int64]

_FAIR = -1
"""The context of fair decisions, whose probability is always one half."""


@dataclass(frozen=True)
class SymbolTree:
    """A binary tree with the K symbols at its leaves.

    Attributes:
        children: the two successors of each node; s < 0 is the leaf of symbol -s - 1. The root is node 0.
        contexts: the place of each node's counts; nodes may share counts, and `_FAIR` has none.
        size: the number of symbols, K.
    """

    children: tuple[tuple[int, int], ...]
    contexts: tuple[int, ...]
    size: int

    @property
    def root(self) -> int:
        """The start of every path: node 0, or the only leaf."""
        return 0 if self.children else -1

    def paths(self) -> list[list[tuple[int, int]]]:
        """Return, for each symbol, the (context, decision) pairs on its path."""
        paths: list[list[tuple[int, int]]] = [[] for _ in range(self.size)]

        def walk(node: int, path: list[tuple[int, int]]) -> None:
            if node < 0:
                paths[-node - 1] = path
                return
            for decision in (0, 1):
                walk(self.children[node][decision], [*path, (self.contexts[node], decision)])

        walk(self.root, [])
        return paths


class _TreeBuilder:
    """A tree under construction."""

    def __init__(self) -> None:
        self.children: list[tuple[int, int]] = []
        self.contexts: list[int] = []

    def node(self, context: int | None = None) -> int:
        """Add a node, with a context of its own unless one is given, and return it."""
        self.children.append((0, 0))
        self.contexts.append(len(self.contexts) if context is None else context)
        return len(self.children) - 1

    def halve(self, leaves: list[int], like: int | None = None) -> int:
        """Add a balanced subtree over leaves, with the contexts of the subtree at `like`, and return its root."""
        if len(leaves) == 1:
            return -leaves[0] - 1
        node = self.node(None if like is None else self.contexts[like])
        half = (len(leaves) + 1) // 2
        twins = (None, None) if like is None else self.children[like]
        first = self.halve(leaves[:half], twins[0])
        self.children[node] = (first, self.halve(leaves[half:], twins[1]))
        return node

    def tree(self, size: int) -> SymbolTree:
        """Return the finished tree."""
        return SymbolTree(tuple(self.children), tuple(self.contexts), size)


def ordered_tree(size: int) -> SymbolTree:
    """Return the tree that halves the symbols again and again; it only assumes that neighbours are alike."""
    builder = _TreeBuilder()
    if size > 1:
        builder.halve(list(range(size)))
    return builder.tree(size)


def symmetric_tree(size: int) -> SymbolTree:
    """Return the tree, for odd K, that decides on the middle symbol first, then a fair sign, then the distance."""
    builder = _TreeBuilder()
    radius = size // 2
    root, sign = builder.node(), builder.node(_FAIR)
    above = builder.halve([radius + r for r in range(1, radius + 1)])
    below = builder.halve([radius - r for r in range(1, radius + 1)], above if above >= 0 else None)
    builder.children[root] = (-radius - 1, sign)
    builder.children[sign] = (above, below)
    return builder.tree(size)


def symbol_trees(size: int) -> list[SymbolTree]:
    """Return the trees that may code a sequence over `size` symbols; if there are two, one bit names the tree."""
    ordered = ordered_tree(size)
    return [symmetric_tree(size), ordered] if size % 2 and size > 1 else [ordered]


def _decisions(tree: SymbolTree, symbols: Symbols) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the contexts and the decisions of a whole sequence, in order."""
    paths = tree.paths()
    lengths = np.array([len(path) for path in paths])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    table = np.array([pair for path in paths for pair in path], dtype=np.int64).reshape(-1, 2)
    repeats = lengths[symbols]
    ends = np.cumsum(repeats)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - repeats, repeats)
    rows = table[np.repeat(starts[symbols], repeats) + within]
    return rows[:, 0], rows[:, 1]


def _estimates(contexts: NDArray[np.int64], decisions: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Return the estimator's integer frequencies before every decision: those of zero, and the totals."""
    zeros = np.ones(len(contexts), dtype=np.int64)
    totals = np.full(len(contexts), 2, dtype=np.int64)
    for context in np.unique(contexts[contexts != _FAIR]):
        places = np.flatnonzero(contexts == context)
        seen = np.arange(len(places))
        ones = np.cumsum(decisions[places]) - decisions[places]
        zeros[places] += 2 * (seen - ones)
        totals[places] += 2 * seen
    return zeros.tolist(), totals.tolist()


def ideal_bits(tree: SymbolTree, symbols: Symbols) -> float:
    """Return -log2 of the probability that the adaptive model gives to the whole sequence."""
    contexts, decisions = _decisions(tree, symbols)
    learned = contexts != _FAIR
    ones = np.bincount(contexts[learned], decisions[learned], minlength=1)
    seen = np.bincount(contexts[learned], minlength=1)
    nats = -(betaln(ones + 0.5, seen - ones + 0.5) - betaln(0.5, 0.5)).sum()
    return float(nats / np.log(2) + np.count_nonzero(~learned))


def learned_probabilities(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probabilities of the next symbol that the adaptive model has learned from a whole sequence.

    The tree is the one that codes the sequence in the fewest bits, up to the coder's excess.

    Args:
        counts: the number of times that each of the K >= 1 symbols occurred, shape (K,).

    Returns:
        Shape (K,), with sum 1.
    """
    codes: list[tuple[float, list[float]]] = []
    for tree in symbol_trees(len(counts)):
        tallies = np.zeros((len(tree.contexts) + 1, 2))  # the last row is that of fair decisions
        paths = tree.paths()
        for path, count in zip(paths, counts, strict=True):
            for context, decision in path:
                tallies[context, decision] += count
        tallies[_FAIR] = tallies[_FAIR].sum() / 2
        chances = (tallies + 0.5) / (tallies.sum(1, keepdims=True) + 1)
        learned = tallies[:-1]
        nats = -(betaln(*(learned.T + 0.5)) - betaln(0.5, 0.5)).sum() + tallies[_FAIR].sum() * np.log(2)
        probabilities = [float(np.prod([chances[pair] for pair in path])) for path in paths]
        codes.append((float(nats), probabilities))
    return np.array(min(codes, key=lambda code: code[0])[1])


def write_symbols(writer: BitWriter, symbols: Symbols, size: int) -> None:
    """Append a sequence over 0 .. size-1, with the tree that makes it shortest; its length is not transmitted."""
    if len(symbols) and not 0 <= symbols.min() <= symbols.max() < size:
        raise ValueError(f"symbols must lie in 0 .. {size - 1}")
    trees = symbol_trees(size)
    best = _shortest(trees, symbols)
    writer.write(best, len(trees) - 1)
    _encode(writer, trees[best], symbols)


def _encode(writer: BitWriter, tree: SymbolTree, symbols: Symbols) -> None:
    """Append the sequence, coded along one tree."""
    contexts, decisions = _decisions(tree, symbols)
    encode_decisions(writer, decisions.tolist(), *_estimates(contexts, decisions))


def _shortest(trees: list[SymbolTree], symbols: Symbols) -> int:
    """Return the place of the first tree with the fewest coded bits.

    The floating-point estimate only excludes trees that cannot win, since the coder exceeds it by at most 2 bits. So
    the choice, and the message, are the same on every machine.
    """
    estimates = [ideal_bits(tree, symbols) for tree in trees]
    near = [index for index, bits in enumerate(estimates) if bits < min(estimates) + 3]

    def coded_bits(index: int) -> int:
        writer = BitWriter()
        _encode(writer, trees[index], symbols)
        return writer.num_bits

    return near[0] if len(near) == 1 else min(near, key=coded_bits)


def read_symbols(reader: BitReader, count: int, size: int) -> Symbols:
    """Return the `count` symbols over 0 .. size-1 that `write_symbols` wrote.

    Raises:
        DecodeError: if the bits end too early.
    """
    trees = symbol_trees(size)
    tree = trees[reader.read(len(trees) - 1)]
    source = DecisionReader(reader)
    symbols = np.fromiter(_walks(tree, source, count), dtype=np.int64)
    source.finish()
    return symbols


def _walks(tree: SymbolTree, source: DecisionReader, count: int) -> Iterator[int]:
    """Yield one decoded symbol after the other."""
    children, contexts, root = tree.children, tree.contexts, tree.root
    zeros = [1] * len(children)
    totals = [2] * len(children)
    decide = source.decide
    for _ in range(count):
        node = root
        while node >= 0:
            context = contexts[node]
            if context == _FAIR:
                decision = decide(1, 2)
            else:
                decision = decide(zeros[context], totals[context])
                totals[context] += 2
                if not decision:
                    zeros[context] += 2
            node = children[node][decision]
        yield -node - 1
