"""Check a run directory by message-format.md alone, whose tables are read from there: reference_decoder.py RUN_DIR...

It imports nothing of pactl, only reference_bounds.py beside it, reads no data, and exits with 1 unless all that can be
derived agrees.
"""

import json
import re
import sys
from bisect import bisect_right
from decimal import ROUND_FLOOR, ROUND_UP, Context, Decimal
from fractions import Fraction
from hashlib import sha256
from math import ceil, comb, inf
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # also where Python runs isolated
from reference_bounds import require, require_bound, require_guarantees

PAGE = Path(__file__).with_name("message-format.md").read_text(encoding="utf-8")
TABLES = {name: rows.split() for name, rows in re.findall(r"(?ms)^```text (\w+)\n(.*?)^```$", PAGE)}
DATASETS = dict(row.rsplit("=", 1) for row in TABLES["datasets"])
NETWORKS = re.findall(r"(\w+):?(\d*)(\*?)", " ".join(TABLES["networks"]))
FIELDS, ROUND = TABLES["fields"], [int(dim) for dim in TABLES["dimensions"]]
EXTRA, SHARE = "--misc-extra-bits", "the share of delta of the error"


def require_equal(name, claimed, derived):
    require(json.dumps(claimed) == json.dumps(derived), f"bound.json says {name} is {claimed!r}, not {derived!r}")


class Message:
    """Bits, in order, and what they mean; `values` are the fields of the header."""

    def __init__(self, data, task):
        self.bits, self.position = np.unpackbits(np.frombuffer(data, np.uint8)).tolist(), 0
        self.task, self.values, own, inputs = task, {}, task["brought"], task["inputs"]
        parts, kinds = task["dataset"].split(","), tuple(name for name in DATASETS if name.endswith(":"))
        name = parts[0] if all(part in DATASETS or part.startswith(kinds) for part in parts) else task["dataset"]
        row = next(row for row in (name, name.partition(":")[0] + ":", "module:function") if row in DATASETS)
        model, calibrates = DATASETS[row].rstrip("*"), "*" in DATASETS[row] and inputs in ("image", "features")
        model = {"tokens": "bag", "features": "fc" if row == "folder:" else model}.get(inputs, model)
        self.networks = {own["name"]: (own["width"], own["batch_statistics"])} if own else {}
        self.networks |= {name: (int(width) if width else None, star == "*") for name, width, star in NETWORKS}
        self.tables = {name: TABLES[name] for name in FIELDS if name in TABLES} | {"model_name": self.networks}
        self.plain = {name: next(iter(table)) for name, table in self.tables.items()}
        self.plain |= {"seed": 137, "label_noise": 0.0, "image_size": None, "freeze": "", "lora_rank": 0}
        self.plain["intrinsic_dim"] = max(dim for dim in ROUND if dim <= max(1, task["train_examples"] // 10))
        self.plain |= {"model_name": model, "normalisation": "calibration" if calibrates else None}

    def read(self, count):
        self.position += count
        require(self.position <= len(self.bits), "the message ends too early")
        return int("0" + "".join(map(str, self.bits[self.position - count : self.position])), 2)

    def gamma(self, most=64):
        require((zeros := self.bits.index(1, self.position) - self.position) < most, "an integer is too large")
        return self.read(2 * zeros + 1)

    def delta(self):
        require((digits := self.gamma(7)) <= 64, "an integer is too large")
        return 1 << (digits - 1) | self.read(digits - 1)

    def usual(self, name):
        width, has_statistics = self.networks.get(self.values.get("model_name"), (None, False))
        if name != "calibration_examples":
            return width if name == "base_width" else self.plain[name]
        most = self.task["train_examples"] // 10 if (pool := self.task["calibration_pool"]) is None else pool
        return min(512, most) if has_statistics or self.values["normalisation"] == "calibration" else 0

    def entry(self, name, default, usual):
        """What is said of a field; nothing may be said in another way than the shortest."""
        if usual != default and self.read(1):
            return usual
        others, start = [each for each in self.tables.get(name, ()) if each != default], self.position
        numbers = ([self.read(14) / 10**4 for _ in range(self.task["channels"])] for _ in range(2))
        value = {
            "intrinsic_dim": lambda: self.delta() - 1 if self.read(1) else ROUND[self.read(6)],
            "seed": lambda: (rank := self.delta()) - (rank <= 137),
            "base_width": self.gamma,
            "normalisation": lambda: "calibration" if self.read(1) else list(numbers),
            "calibration_examples": lambda: self.delta() - 1,
            "label_noise": lambda: self.read(14) / 10**4,
            "freeze": lambda: self.read(8 * (size := self.delta())).to_bytes(size, "big").decode(),
            **dict.fromkeys(self.tables, lambda: others[self.gamma() - 1]),
        }.get(name, self.delta)()
        is_wrong = {
            "intrinsic_dim": lambda: (value in ROUND) != (self.position - start == 7) or value > 1 << 26,
            "base_width": lambda: usual is None,
            "normalisation": lambda: value != "calibration" and not all(value[1]),
            "label_noise": lambda: value > 1,
            "freeze": lambda: len(value.encode()) > 200,
        }.get(name, bool)()
        require(not is_wrong and value not in (default, usual), f"{name} has a value that nobody writes")
        return value

    def header(self):
        gap = inf if self.read(1) else self.gamma()
        for name in FIELDS:
            usual, known, gap = self.usual(name), self.values, gap - 1
            hides = known.get("intrinsic_dim") or known.get("normalisation") == "calibration"
            free = {} if name == "calibration_examples" and hides else self.task["defaults"]
            default = free.get(name, usual)
            known[name] = default if gap else self.entry(name, default, usual)
            gap = gap or (inf if self.read(1) else self.gamma())
        require(gap == inf, "there is no field of that number")
        return self.values

    def codebook(self):
        if not self.read(1):
            R = self.gamma() - 1
            step = float(np.array(self.read(15) if R else 15360, np.uint16).view(np.float16))
            require(R <= 511 and 0 < step < inf, "there are too many levels, or they are none")
            return [step * z for z in range(-R, R + 1)]
        require(self.gamma() == 1, "there is no codebook of that number")
        size, above, ranks = self.gamma(), 63487, []
        require(size <= 1024, "there are too many levels")
        number = self.read((comb(above, size) - 1).bit_length())
        require(number < comb(above, size), "there is no such set of levels")
        for place in range(size, 0, -1):
            above = bisect_right(range(above), number, key=lambda rank: comb(rank, place)) - 1
            number -= comb(above, place)
            ranks.insert(0, above - 31743)
        return (np.abs(ranks).astype(np.uint16).view(np.float16) * np.sign(ranks).astype(float)).tolist()

    def symbols(self, count, size):
        which = self.read(len(trees(size)) - 1)
        coder, tree = Coder(self.bits[self.position :]), trees(size)[which]
        symbols = [coder.walk(tree) for _ in range(count)]
        codes = [Coder().written_for(tree, symbols) for tree in trees(size)]
        written = self.bits[self.position : self.position + len(codes[which])]
        is_shortest = len(codes[which]) < len(codes[1 - which]) + (which == 0) if len(codes) > 1 else True
        require(written == codes[which] and is_shortest, "the symbols are not written so")
        self.position += len(written)
        return symbols


class Coder:
    """The interval of the arithmetic code, and what a sender writes; decisions are read from bits `ahead`, if any."""

    def __init__(self, ahead=None):
        self.low, self.high, self.pending, self.written = 0, 1 << 48, 0, []
        self.ahead = None if ahead is None else iter(ahead)  # then zeros
        self.x = self.ahead and int("".join(str(next(self.ahead, 0)) for _ in range(48)), 2)

    def write(self, bit):
        self.written += [bit] + [1 - bit] * self.pending
        self.pending = 0

    def code(self, context, decision):
        zero, total = context or (1, 2)  # a sign has no context
        middle = self.low + (self.high - self.low) * zero // total
        decision = int(self.x >= middle) if decision is None else decision
        self.low, self.high = (middle, self.high) if decision else (self.low, middle)
        while found := [o for o in (0, 1 << 47, 1 << 46) if o <= self.low and self.high <= o + (1 << 47)]:
            if found[0] == 1 << 46:
                self.pending += 1
            else:
                self.write(found[0] >> 47)
            self.low, self.high = 2 * (self.low - found[0]), 2 * (self.high - found[0])
            self.x = self.ahead and 2 * (self.x - found[0]) + next(self.ahead, 0)
        if context:
            context[:] = zero + 2 * (1 - decision), total + 2
        return decision

    def walk(self, node, symbol=None):
        """Code a symbol along a tree, or read it if it is None."""
        while isinstance(node, tuple):
            node = node[1 + self.code(node[0], symbol if symbol is None else int(symbol in node[3]))]
        return node

    def written_for(self, tree, symbols):
        for symbol in symbols:
            self.walk(tree, symbol)
        ends = ((length, -(-self.low >> (48 - length))) for length in range(self.pending > 0, 3))
        length, value = next((m, v) for m, v in ends if (v + 1) << (48 - m) <= self.high)
        for place in range(length)[::-1]:
            self.write(value >> place & 1)
        return self.written


def halves(symbols, like=None):
    """A leaf; or a node: its context, what 0 and 1 lead to, and the symbols to which 1 leads."""
    if len(symbols) == 1:
        return symbols[0]
    half, (context, first, second, _) = (len(symbols) + 1) // 2, like or ([1, 2], None, None, None)
    return context, halves(symbols[:half], first), halves(symbols[half:], second), set(symbols[half:])


def trees(size):
    every, R = list(range(size)), size // 2
    if size % 2 == 0 or size == 1:
        return [halves(every)]
    above = halves(every[R + 1 :])
    sign = (None, above, halves(every[:R][::-1], above), set(every[:R]))
    return [([1, 2], R, sign, set(every) - {R}), halves(every)]


def statement(said, is_hold_out):
    side, name, tenths = said["side_information"], said["dataset"], Fraction(said["error_bound"]) * 10**4
    doubt = Context(10, ROUND_UP).multiply(Decimal(repr(said["delta"])), 100)
    sure = re.sub(r"\.?0*$", "", f"{Context(40, ROUND_FLOOR).subtract(100, doubt):.38f}")
    is_plain, is_own = re.fullmatch(r"[\w.:,-]{1,200}", name), name not in DATASETS or name.endswith(":")
    own = f'"{name}"' if is_plain else re.search(r'examples of ("[^"]*")|$', said["statement"])[1]
    left, noise = side["excluded_examples"] + side["copies_left_out"], said["configuration"]["label_noise"]
    words = {name: " ".join(["", *TABLES[name]]) if left else "" for name in ("OTHER", "LEFT")}
    words |= {"LEFT": words["LEFT"].format(E=f"{left:,}")}
    claims = {each["what"]: each["claim"] for each in said["guarantees"]}
    claims["error"] = " ".join(TABLES["error"]).format(PERCENT=f"{ceil(tenths) / 100:.2f}")
    words |= {"CLAIM": claims[said["headline"]]}
    words |= {"N": f"{said['bound_examples']:,}", "NAME": own if is_own else name}
    words |= {"CONFIDENCE": sure if doubt >= Decimal("1e-16") else "more than 99.9999999999999999"}
    words |= {"NOISE": " ".join(TABLES["NOISE"]).format(RATE=f"{noise:g}") if noise else ""}
    return " ".join(TABLES["hold_out" if is_hold_out else "statement"]).format(**words)


def check(data, given, said):
    """Return configuration, coordinates and what is not checked, if all that follows from the two files agrees."""
    n, k, side = (said[name] for name in ("bound_examples", "errors", "side_information"))
    ledger = {each["reason"]: each["bits"] for each in said["ledger"]}
    extra, share = ledger.get(EXTRA, 0.0), ledger.get(SHARE, 0.0)
    task, tested, message = side["task"], said["test_examples"], Message(data, side["task"])
    counts = [n, k, tested, side["excluded_examples"], side["copies_left_out"]]
    require(all(type(count) is int and count >= 0 for count in counts), "a count is no number of examples")
    values, header = message.header(), message.position
    require_equal("configuration", said["configuration"], values)
    levels, codebook = message.codebook() if (d := values["intrinsic_dim"]) else [], message.position
    w = [levels[symbol] for symbol in (message.symbols(d, len(levels)) if d else [])]
    threshold, end = (message.position, message.read(6))[::-1] if task["abstains"] else (None, message.position)
    require(len(message.bits) - message.position < 8 and not any(message.bits[message.position :]), "something follows")
    parts = {"configuration": header, "codebook": codebook - header, "symbols": end - codebook}
    parts |= {"threshold": message.position - end, "ledger": extra + share}
    own = 0 if task["calibration_pool"] is not None else values["calibration_examples"] + side["copies_left_out"]
    derived = {"schema_version": 3, "format": 2, "kind": "subspace", "numerical_margin": 1e-4, "levels": len(levels)}
    derived |= {"message_sha256": sha256(data).hexdigest(), "classifier_sha256": sha256(given).hexdigest()}
    derived |= {"intrinsic_dim": d, "dataset": task["dataset"], "message_bits": message.position}
    paid = [{"bits": ledger[reason], "reason": reason} for reason in (EXTRA, SHARE) if ledger.get(reason, 0) > 0]
    derived |= {"ledger": paid, "ledger_bits": extra + share}
    derived |= {"hypothesis": "subspace" if d else "d=0 hold-out", "bound_examples": task["train_examples"] - own}
    derived |= {"quantised_train_error": k / n, "error_bound": said["bounds"]["binomial"]}
    derived |= {"bits": parts, "statement": statement(said, side["theta0_sha256"] is not None and not any(w))}
    for name, value in derived.items():
        require_equal(name, said[name], value)
    require_equal("task", [side["inputs"]["kind"], side["train_examples"]], [task["inputs"], task["train_examples"]])
    for name, total in [("train_error", n), ("majority_error", n), ("test_error", tested)][: 3 if tested else 2]:
        require(round(said[name] * total) / total == said[name] <= 1, f"{name} is no count of {total}")
    require(tested or said["test_error"] is said["holdout_bound"] is None, "there is no test set")
    for each in (said, *said["at_other_deltas"]):
        require_bound(each["error_bound"], k, n, message.position + Fraction(extra + share), each["delta"])
    require_guarantees(said, message.position + Fraction(extra), threshold)
    if tested:
        require_bound(said["holdout_bound"], round(said["test_error"] * tested), tested, 0, said["delta"])
    return (
        values,
        w,
        said.keys() - derived.keys() - {"delta", "at_other_deltas", "configuration", "holdout_bound", "headline"},
    )


def main(path):
    try:
        once = lambda pairs: require(len(dict(pairs)) == len(pairs), "a key stands twice") or dict(pairs)  # noqa: E731
        said = json.loads((Path(path) / "bound.json").read_bytes(), object_pairs_hook=once)
        files = (Path(path, name).read_bytes() for name in ("message.bin", "classifier.safetensors"))
        values, w, unseen = check(*files, said)
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        print(f"{path}: {type(error).__name__}: {error}"[:500].replace("\n", " "), file=sys.stderr)
        return 1
    print(path, *(f"{said[name]} {name}" for name in ("errors", "bound_examples", "message_bits", "error_bound")))
    print(f"{json.dumps(values)}\n{len(w)} coordinates, the first:", *(f"{value:g}" for value in w[:8]))
    print("taken as they are, in full or in part:", *sorted(unseen))
    return 0


if __name__ == "__main__":
    sys.exit(max(map(main, sys.argv[1:]), default=__doc__))
