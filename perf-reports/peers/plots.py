"""Latency against rate as inline SVG."""

import html
import math

WIDTH, HEIGHT = 860, 360
LEFT, RIGHT, TOP, BASE = 70, 20, 40, 310
# Told apart by people who see colours differently, and in print.
COLOURS = {"heddle": "#0072b2", "kafka": "#d55e00"}
NAMES = {"heddle": "Heddle", "kafka": "Kafka"}
DASHES = {"p50_us": "", "p99_us": "6 4", "p999_us": "2 3"}
PERCENTILES = {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9"}


def latency(results, block, record_bytes, title):
    """Medians over the turns at the rates that were sustained; a vertical line where each broker saturates."""
    curves, saturation, behind = [], {}, []
    for broker, loads in results.loads.items():
        mine = [(key, loads[key]) for key in results.keys if key in loads and key[:3] == (*block, record_bytes)]
        for key, load in mine:
            if key[4] == 0 and key[3] == "batched":
                saturation[broker] = load.median("rate_achieved")
            elif key[4] and load.state != "ok":
                behind.append((broker, key[4]))
        for shape in ("single", "batched"):
            held = [(key[4], load) for key, load in mine if key[3] == shape and key[4] and load.state == "ok"]
            for name in PERCENTILES:
                curves.append((broker, name, shape, [(rate, load.median(name)) for rate, load in held]))
    rates = [rate for *_, points in curves for rate, _ in points] + [rate for _, rate in behind]
    values = [value for *_, points in curves for _, value in points]
    if not values:
        return ""
    x = _axis([*rates, *saturation.values()], LEFT, WIDTH - RIGHT)
    y = _axis(values, BASE, TOP)
    parts = [_frame(title, x, y)]
    parts += [_curve(*curve, x, y) for curve in curves if curve[3]]
    for broker, rate in saturation.items():
        at = x.place(rate)
        parts.append(f'<path d="M{at:.1f} {TOP}V{BASE}" stroke="{COLOURS[broker]}" stroke-width="3" opacity="0.45">'
                     f"<title>{NAMES[broker]} saturates at {rate:,.0f}/s</title></path>")  # fmt: skip
    for broker, rate in behind:
        dx = -6 if broker == "heddle" else 6
        parts.append(f'<text class="m" fill="{COLOURS[broker]}" x="{x.place(rate) + dx:.1f}" y="{TOP + 12}">×'
                     f"<title>{NAMES[broker]} did not sustain {rate:,}/s</title></text>")  # fmt: skip
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>\n{_legend()}'


class _Axis:
    """By powers of ten, from a power to a power."""

    def __init__(self, low, high, at_low, at_high):
        self.low, self.high, self._from, self._to = low, high, at_low, at_high

    def place(self, value):
        share = (math.log10(max(value, 1e-9)) - self.low) / (self.high - self.low)
        return self._from + min(max(share, 0), 1) * (self._to - self._from)

    def marks(self):
        return [10**power for power in range(self.low, self.high + 1)]


def _axis(values, at_low, at_high):
    logs = [math.log10(value) for value in values if value and value > 0]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    return _Axis(low, max(high, low + 1), at_low, at_high)


def _mark(value):
    if value >= 1_000_000:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1000 else f"{value:g}"


def _frame(title, x, y):
    parts = [f'<title>{html.escape(title)}</title><text class="t" x="{LEFT}" y="18">{html.escape(title)}</text>']
    parts.append(f'<text class="m" x="{WIDTH / 2}" y="{HEIGHT - 8}">records per second asked for</text>')
    parts.append(f'<text class="l" x="{WIDTH - RIGHT}" y="18">latency, µs</text>')
    for value in x.marks():
        at = x.place(value)
        parts.append(f'<path class="g" d="M{at:.1f} {TOP}V{BASE}"/><text class="m" x="{at:.1f}" y="{BASE + 16}">{_mark(value)}</text>')
    for value in y.marks():
        at = y.place(value)
        parts.append(f'<path class="g" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/><text class="l" x="{LEFT - 6}" y="{at + 4:.1f}">{_mark(value)}</text>')
    return "".join(parts)


def _curve(broker, name, shape, points, x, y):
    places = [(x.place(rate), y.place(value)) for rate, value in points]
    label = f"{NAMES[broker]} {PERCENTILES[name]}, {shape}"
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    dash = f' stroke-dasharray="{DASHES[name]}"' if DASHES[name] else ""
    out = f'<polyline points="{line}" fill="none" stroke="{COLOURS[broker]}" stroke-width="1.7"{dash}/>'
    for (px, py), (rate, value) in zip(places, points):
        fill = COLOURS[broker] if shape == "single" else "#fff"
        out += (f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.2" fill="{fill}" stroke="{COLOURS[broker]}">'
                f"<title>{label}: {value:,.0f} µs at {rate:,}/s</title></circle>")  # fmt: skip
    return out


def _legend():
    items = []
    for broker, colour in COLOURS.items():
        for name, style in (("p50_us", "solid"), ("p99_us", "dashed"), ("p999_us", "dotted")):
            items.append(f'<span><i style="border-top:2px {style} {colour}"></i>{NAMES[broker]} {PERCENTILES[name]}</span>')
    note = "Full points: one record a request; hollow: batched. Thick line: saturation. ×: rate not sustained."
    return f'<p class="legend">{" ".join(items)} {note}</p>'
