"""What simulated lives come to, as one page of HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape

from invoice_mcp.testing.checker.violations import RULES
from invoice_mcp.testing.simulate.fuzz.statistics import DURATION_BUCKETS, EpisodeReport, Totals, format_elapsed

_COLOURS = {
    "PAID": "#2e7d4f",
    "REJECTED": "#b7791f",
    "EXPIRED": "#6b7280",
    "CANCELLED": "#3b6fb6",
    "FAILED": "#a8461f",
}
_BROKEN, _NEUTRAL = "#c81e1e", "#3b6fb6"
_ROW, _NAME, _BAR, _COUNT = 26, 170, 440, 90

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --paper: #fff; --card: #f6f8fa; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6eaf0; --soft: #9aa5b4; --line: #323b47; --paper: #14181e; --card: #1b2129; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 68rem; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0 0 1rem; }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem; }}
dl {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem; margin: 0; }}
dl div {{ background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; }}
dt {{ color: var(--soft); font-size: .8rem; }}
dd {{ margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }}
svg {{ max-width: 100%; height: auto; }}
svg text {{ font: 13px system-ui, sans-serif; fill: var(--ink); }}
details {{ border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .5rem .8rem; }}
summary {{ cursor: pointer; font-weight: 600; }}
pre {{ background: var(--card); padding: .6rem .8rem; border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .85rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; width: 100%; }}
td, th {{ text-align: left; vertical-align: top; padding: .15rem .6rem .15rem 0;
  border-bottom: 1px solid var(--line); }}
td:first-child {{ white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--soft); }}
td:nth-child(2) {{ white-space: nowrap; }}
td:last-child {{ overflow-wrap: anywhere; }}
tr.client td {{ font-weight: 600; }}
.broken {{ color: {broken}; }}
</style>
</head>
<body>
<h1>{title}</h1>
<dl>
{facts}
</dl>
<h2>How they ended</h2>
{outcomes}
<h2>Virtual time lived by one invoice</h2>
{spans}
<h2>Faults met</h2>
{faults}
<h2>{heading}</h2>
{stories}
</body>
</html>
"""


def page(title: str, facts: Mapping[str, str], totals: Totals) -> str:
    """The page.

    Args:
        facts: Figures to begin with, by name.
    """
    stories = totals.failures or [totals.samples[name] for name in sorted(totals.samples)]
    return _PAGE.format(
        title=escape(title),
        broken=_BROKEN,
        facts="\n".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items()),
        outcomes=_bars("outcomes", totals.outcomes.most_common(), lambda name: _COLOURS.get(name, _BROKEN)),
        spans=_bars("spans", [(name, totals.spans[name]) for name, _ in DURATION_BUCKETS], lambda name: _NEUTRAL),  # noqa: ARG005
        faults=_bars("faults", totals.faults.most_common(), lambda name: _NEUTRAL),  # noqa: ARG005
        heading="What failed" if totals.failures else "One life of each outcome",
        stories="\n".join(map(_story, stories)) or "<p>None.</p>",
    )


def _bars(name: str, counted: Iterable[tuple[str, int]], colour: Callable[[str], str]) -> str:
    """A chart of bars, with their counts beside them."""
    rows = list(counted)
    if not rows:
        return "<p>None.</p>"
    most = max(count for _, count in rows) or 1
    total = sum(count for _, count in rows) or 1
    bars = []
    for number, (label, count) in enumerate(rows):
        y, width = number * _ROW, count / most * _BAR
        bars.append(
            f'<text x="{_NAME - 10}" y="{y + 17}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{_NAME}" y="{y + 4}" width="{width:.1f}" height="{_ROW - 8}" rx="2" fill="{colour(label)}"/>'
            f'<text x="{_NAME + width + 8:.1f}" y="{y + 17}">{count:,} ({count / total:.1%})</text>'
        )
    size = f"{_NAME + _BAR + _COUNT + 30} {len(rows) * _ROW}"
    width = _NAME + _BAR + _COUNT + 30
    inside = "\n".join(bars)
    return f'<svg id="{name}" role="img" aria-label="{name}" viewBox="0 0 {size}" width="{width}">\n{inside}\n</svg>'


def _story(told: EpisodeReport) -> str:
    broken = told.life.broken
    by = ", ".join(f"{rule} ({RULES[rule]})" if rule in RULES else rule for rule in broken.by) if broken else ""
    title = f'<span class="broken">breaks {escape(by)}</span>' if broken else escape(told.life.outcome)
    seen = f"<pre>{escape(broken.seen)}</pre>" if broken else ""
    rows = "\n".join(
        f"<tr{' class=client' if moment.who == 'client' else ''}><td>{format_elapsed(moment)}</td>"
        f"<td>{escape(moment.who)}</td><td>{escape(moment.what)}</td></tr>"
        for moment in told.life.story
    )
    return f"""\
<details{" open" if broken else ""}>
<summary>Run {told.run}: {title}</summary>
{seen}
<p>{escape(str(told.scenario))}</p>
<pre>{escape(told.command)}</pre>
<div class="wide"><table>
<tr><th>since it began</th><th>who</th><th>what</th></tr>
{rows}
</table></div>
</details>"""
