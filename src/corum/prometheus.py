"""Counters, gauges, histograms, and their text form for Prometheus. Knows no metric by name.

Increments are plain attribute arithmetic, and one thread does them; `text` may be called by it too.
Hot paths count in batches: `counter.add(len(batch))`, `histogram.observe_ns(took_ns)`.
Source: Prometheus exposition format 0.0.4.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from math import inf, isinf
from typing import Any, ClassVar, Final, Generic, TypeVar

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_NS: Final = 1e-9


class Counter:
    """A number that only grows."""

    __slots__ = ("source", "value")
    TYPE: ClassVar[str] = "counter"

    def __init__(self) -> None:
        self.value: float = 0
        self.source: Callable[[], float] | None = None
        """Asked at exposition instead of `value`, for what is counted elsewhere."""

    def add(self, amount: float = 1) -> None:
        """Grow by `amount` >= 0."""
        self.value += amount

    def samples(self, name: str, labels: str) -> Iterable[str]:
        """Its lines."""
        found = self.source() if self.source else self.value
        yield f"{name}{_braced(labels)} {go_float(found)}"


class Gauge(Counter):
    """A number that goes up and down."""

    __slots__ = ()
    TYPE: ClassVar[str] = "gauge"

    def set(self, amount: float) -> None:
        """Be `amount`."""
        self.value = amount


class Histogram:
    """How many observations fell below each of its bounds, and their sum."""

    __slots__ = ("bounds", "counts", "sum")
    TYPE: ClassVar[str] = "histogram"

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds`: upper ends (inclusive), ascending, without infinity."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum: float = 0.0

    def observe(self, amount: float, times: int = 1) -> None:
        """Count `amount` (in the metric's unit), `times` times."""
        self.counts[bisect_left(self.bounds, amount)] += times
        self.sum += amount * times

    def observe_ns(self, nanoseconds: int, times: int = 1) -> None:
        """`observe` for a metric in seconds."""
        self.observe(nanoseconds * _NS, times)

    def samples(self, name: str, labels: str) -> Iterable[str]:
        """Its lines: cumulative buckets, sum, count."""
        prefix = f"{labels}," if labels else ""
        total = 0
        for bound, count in zip((*self.bounds, inf), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{{prefix}le="{go_float(bound)}"}} {total}'
        yield f"{name}_sum{_braced(labels)} {go_float(self.sum)}"
        yield f"{name}_count{_braced(labels)} {total}"


M = TypeVar("M", Counter, Gauge, Histogram)


class Family(Generic[M]):
    """One metric with labels: a child for each combination of values, made at its first use."""

    __slots__ = ("_make", "children", "label_names")

    def __init__(self, label_names: Sequence[str], make: Callable[[], M]) -> None:
        self.label_names = tuple(label_names)
        self.children: dict[tuple[str, ...], M] = {}
        self._make = make

    def labels(self, *values: str) -> M:
        """The child with these values, in the order of `label_names`."""
        child = self.children.get(values)
        if child is None:
            assert len(values) == len(self.label_names), f"{values} for {self.label_names}"
            child = self.children[values] = self._make()
        return child

    def clear(self) -> None:
        """Forget all children: for families of which one child says what holds now."""
        self.children.clear()

    def samples(self, name: str) -> Iterable[str]:
        """The lines of every child, ordered by label values; labels ordered by name."""
        order = sorted(range(len(self.label_names)), key=self.label_names.__getitem__)
        for values in sorted(self.children):
            pairs = (f'{self.label_names[at]}="{_escaped(values[at])}"' for at in order)
            yield from self.children[values].samples(name, ",".join(pairs))


class Registry:
    """All metrics of one member, by name."""

    def __init__(self) -> None:
        self._metrics: dict[str, tuple[str, str, Any]] = {}
        self._collectors: list[Callable[[], Iterable[str]]] = []

    def _add(self, name: str, kind: str, meaning: str, metric: Any) -> None:
        assert name not in self._metrics, f"metric {name} declared twice"
        self._metrics[name] = (kind, meaning, metric)

    def counter(self, name: str, meaning: str) -> Counter:
        """Declare a counter."""
        made = Counter()
        self._add(name, made.TYPE, meaning, made)
        return made

    def gauge(self, name: str, meaning: str) -> Gauge:
        """Declare a gauge."""
        made = Gauge()
        self._add(name, made.TYPE, meaning, made)
        return made

    def histogram(self, name: str, meaning: str, bounds: Sequence[float]) -> Histogram:
        """Declare a histogram."""
        made = Histogram(bounds)
        self._add(name, made.TYPE, meaning, made)
        return made

    def counters(self, name: str, meaning: str, *labels: str) -> Family[Counter]:
        """Declare a counter with labels."""
        made = Family(labels, Counter)
        self._add(name, Counter.TYPE, meaning, made)
        return made

    def gauges(self, name: str, meaning: str, *labels: str) -> Family[Gauge]:
        """Declare a gauge with labels."""
        made = Family(labels, Gauge)
        self._add(name, Gauge.TYPE, meaning, made)
        return made

    def histograms(
        self, name: str, meaning: str, bounds: Sequence[float], *labels: str
    ) -> Family[Histogram]:
        """Declare a histogram with labels."""
        made = Family(labels, lambda: Histogram(bounds))
        self._add(name, Histogram.TYPE, meaning, made)
        return made

    def alias(self, name: str, of: Counter, kind: str = "counter") -> None:
        """A second (older) name for a counter or gauge."""
        self._add(name, kind, "Older name.", of)

    def collect(self, lines: Callable[[], Iterable[str]]) -> None:
        """Add blocks of lines, HELP and TYPE included, that are computed at exposition."""
        self._collectors.append(lines)

    def declared(self) -> dict[str, tuple[str, str, Any]]:
        """Name -> (kind, meaning, the metric or Family)."""
        return dict(self._metrics)

    def text(self) -> str:
        """Everything in the exposition format; a family without children is left out."""
        lines: list[str] = []
        for name, (kind, meaning, metric) in sorted(self._metrics.items()):
            with_labels = isinstance(metric, Family)
            samples = list(metric.samples(name) if with_labels else metric.samples(name, ""))
            if samples:
                lines += header(name, kind, meaning)
                lines += samples
        for collector in self._collectors:
            lines += collector()
        return "\n".join(lines) + "\n"


def header(name: str, kind: str, meaning: str) -> tuple[str, str]:
    """The two lines before a metric's samples."""
    return f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """`count` bounds: start, start·factor, start·factor², ...; multiplied up as in Go."""
    bounds: list[float] = []
    for _ in range(count):
        bounds.append(start)
        start *= factor
    return tuple(bounds)


def go_float(number: float) -> str:
    """A number as Go prints it with 'g' and the shortest precision: "8.388608e+06", "+Inf"."""
    if isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    if number == int(number) and abs(number) < 1_000_000:
        return str(int(number))
    sign, digits, _ = (decimal := Decimal(repr(number)).normalize()).as_tuple()
    exponent = decimal.adjusted()
    if -4 <= exponent < 6:
        return format(decimal, "f")
    text = "".join(map(str, digits))
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{'-' if sign else ''}{text[0]}{fraction}e{exponent:+03}"


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
