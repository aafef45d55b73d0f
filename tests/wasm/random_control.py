"""Random programs of nested branches and loops, as TOSA text and as Python that computes the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

ROW, FLAG, COUNT = "tensor<4xi32>", "tensor<i1>", "tensor<i32>"
Environment = dict[str, np.ndarray]

_ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "maximum": np.maximum,
    "bitwise_xor": np.bitwise_xor,
}


@dataclass
class _Block:
    """Statements under construction: their text, what they do, the rows that later ones may read, and a flag."""

    rows: list[str]
    flag: str
    lines: list[str] = field(default_factory=list)
    steps: list[Callable[[Environment], None]] = field(default_factory=list)

    def run(self, environment: Environment) -> None:
        for step in self.steps:
            step(environment)


class RandomControl:
    """`text` is a module of rows %x0..%x2 and a flag %f that gives three rows; `run` computes them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.names = 0
        block = _Block(["%x0", "%x1", "%x2"], "%f")
        self.statements(block, depth=3)
        self.block, self.results = block, self.choose(block, 3)
        body = "\n".join(block.lines)
        self.text = f"""func.func @main(%x0: {ROW}, %x1: {ROW}, %x2: {ROW}, %f: {FLAG}) -> ({_listed(3)}) {{
            {body}
            return {", ".join(self.results)} : {_listed(3)} }}"""

    def run(self, rows: list[np.ndarray], flag: bool) -> list[np.ndarray]:
        environment: Environment = {f"%x{i}": row for i, row in enumerate(rows)} | {"%f": np.array(flag)}
        self.block.run(environment)
        return [environment[name] for name in self.results]

    def name(self) -> str:
        self.names += 1
        return f"%v{self.names}"

    def choose(self, block: _Block, count: int) -> list[str]:
        return [self.rng.choice(block.rows) for _ in range(count)]

    def statements(self, block: _Block, depth: int) -> None:
        kinds = [self.arithmetic, self.arithmetic, self.turn, self.constant]
        kinds += [self.branch, self.loop] if depth else []
        for _ in range(self.rng.randint(1, 4)):
            kind = self.rng.choice(kinds)
            kind(block, depth)

    def arithmetic(self, block: _Block, depth: int) -> None:
        op, (a, b), result = self.rng.choice(list(_ARITHMETIC)), self.choose(block, 2), self.name()
        block.lines.append(f"{result} = tosa.{op} {a}, {b} : ({ROW}, {ROW}) -> {ROW}")
        block.steps.append(lambda env: env.update({result: _ARITHMETIC[op](env[a], env[b])}))
        block.rows.append(result)

    def turn(self, block: _Block, depth: int) -> None:
        (a,), result = self.choose(block, 1), self.name()
        block.lines.append(f"{result} = tosa.reverse {a} {{axis = 0 : i32}} : ({ROW}) -> {ROW}")
        block.steps.append(lambda env: env.update({result: env[a][::-1]}))
        block.rows.append(result)

    def constant(self, block: _Block, depth: int) -> None:
        values, result = [self.rng.randint(-9, 9) for _ in range(4)], self.name()
        block.lines.append(f'{result} = "tosa.const"() {{values = dense<{values}> : {ROW}}} : () -> {ROW}')
        block.steps.append(lambda env: env.update({result: np.array(values, np.int32)}))
        block.rows.append(result)

    def branch(self, block: _Block, depth: int) -> None:
        passed, outer, count = self.choose(block, 2), self.name(), self.rng.randint(1, 3)
        arms, yields, arguments = [], [], []
        for _ in range(2):
            arms.append(self.inner(2, depth))
            arguments.append(arms[-1].rows[:2])
            yields.append(self.choose(arms[-1], count))
        outside = [self.name() for _ in range(3)]
        given = ", ".join(f"{a} = {p}" for a, p in zip(outside, [*passed, block.flag]))
        block.lines += [
            f"{outer}:{count} = tosa.cond_if {block.flag} ({given}) : {FLAG} ({ROW}, {ROW}, {FLAG})",
            f"-> ({_listed(count)}) {{",
            f"^bb0({_typed([*arguments[0], arms[0].flag])}):",
            *arms[0].lines,
            f"tosa.yield {', '.join(yields[0])} : {_listed(count)} }} else {{",
            f"^bb0({_typed([*arguments[1], arms[1].flag])}):",
            *arms[1].lines,
            f"tosa.yield {', '.join(yields[1])} : {_listed(count)} }}",
        ]

        def run(env: Environment) -> None:
            taken = 0 if env[block.flag] else 1
            inner = dict(zip(arguments[taken], (env[name] for name in passed)))
            inner[arms[taken].flag] = env[block.flag]
            arms[taken].run(inner)
            env.update((f"{outer}#{i}", inner[name]) for i, name in enumerate(yields[taken]))

        block.steps.append(run)
        block.rows += [f"{outer}#{i}" for i in range(count)]

    def loop(self, block: _Block, depth: int) -> None:
        """Rows and a flag around `for i in range(start, limit, step)`; the flag turns over in each trip."""
        passed, outer = self.choose(block, 3), self.name()
        start, step, limit = self.rng.randint(-3, 3), self.rng.randint(1, 3), self.rng.randint(-3, 9)
        body = self.inner(3, depth)
        rows, yields = body.rows[:3], self.choose(body, 3)
        first, bound, by, i, j, after, more, turned = (self.name() for _ in range(8))
        given = zip([i, *(self.name() for _ in rows), self.name()], [first, *passed, block.flag])
        types = f"{COUNT}, {_listed(3)}, {FLAG}"
        block.lines += [
            _number(first, start),
            f"{outer}:5 = tosa.while_loop ({', '.join(f'{a} = {p}' for a, p in given)}) : ({types}) -> ({types}) {{",
            _number(bound, limit),
            f"{more} = tosa.greater {bound}, {i} : ({COUNT}, {COUNT}) -> {FLAG}",
            f"tosa.yield {more} : {FLAG} }} do {{",
            f"^bb0({j}: {COUNT}, {_typed([*rows, body.flag])}):",
            *body.lines,
            _number(by, step),
            f"{after} = tosa.add {j}, {by} : ({COUNT}, {COUNT}) -> {COUNT}",
            f"{turned} = tosa.logical_not {body.flag} : ({FLAG}) -> {FLAG}",
            f"tosa.yield {after}, {', '.join(yields)}, {turned} : {types} }}",
        ]

        def run(env: Environment) -> None:
            values, flag = [env[name] for name in passed], env[block.flag]
            for _ in range(start, limit, step):
                inner = {**dict(zip(rows, values)), body.flag: flag}
                body.run(inner)
                values, flag = [inner[name] for name in yields], np.logical_not(flag)
            env.update((f"{outer}#{k + 1}", value) for k, value in enumerate(values))

        block.steps.append(run)
        block.rows += [f"{outer}#{k + 1}" for k in range(3)]

    def inner(self, rows: int, depth: int) -> _Block:
        block = _Block([self.name() for _ in range(rows)], self.name())
        self.statements(block, depth - 1)
        return block


def _listed(count: int) -> str:
    return ", ".join([ROW] * count)


def _number(name: str, value: int) -> str:
    return f'{name} = "tosa.const"() {{values = dense<{value}> : {COUNT}}} : () -> {COUNT}'


def _typed(names: list[str]) -> str:
    """Rows and a flag as arguments."""
    return ", ".join([*(f"{name}: {ROW}" for name in names[:-1]), f"{names[-1]}: {FLAG}"])
