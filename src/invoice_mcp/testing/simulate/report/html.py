"""Report of a fuzzing campaign as one HTML page, with no scripts, styles or images from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape

from invoice_mcp.testing.simulate.fuzz.statistics import DURATION_BUCKETS, EpisodeReport, Totals
from invoice_mcp.testing.simulate.timeline import format_elapsed

_COLOURS = {
    "PAID": "#2e7d4f",
    "REJECTED": "#b7791f",
    "EXPIRED": "#6b7280",
    "CANCELLED": "#3b6fb6",
    "FAILED": "#a8461f",
}
_FAILED, _NEUTRAL = "#c81e1e", "#3b6fb6"
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
.failed {{ color: {failed}; }}
</style>
</head>
<body>
<h1>{title}</h1>
<dl>
{facts}
</dl>
<h2>Outcomes</h2>
{outcomes}
<h2>Virtual time of an episode</h2>
{durations}
<h2>Faults</h2>
{faults}
<h2>{heading}</h2>
{episodes}
</body>
</html>
"""


def render_page(title: str, facts: Mapping[str, str], totals: Totals) -> str:
    """The page.

    Args:
        facts: Figures for the top of the page, by name.
    """
    reports = totals.failures or [totals.samples[name] for name in sorted(totals.samples)]
    durations = [(name, totals.durations[name]) for name, _ in DURATION_BUCKETS]
    return _PAGE.format(
        title=escape(title),
        failed=_FAILED,
        facts="\n".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items()),
        outcomes=_bar_chart("outcomes", totals.outcomes.most_common(), lambda name: _COLOURS.get(name, _FAILED)),
        durations=_bar_chart("durations", durations),
        faults=_bar_chart("faults", totals.faults.most_common()),
        heading="Failures" if totals.failures else "One episode of each outcome",
        episodes="\n".join(map(_episode, reports)) or "<p>None.</p>",
    )


def _neutral(_name: str) -> str:
    return _NEUTRAL


def _bar_chart(name: str, counted: Iterable[tuple[str, int]], colour: Callable[[str], str] = _neutral) -> str:
    """An SVG bar chart with a count beside each bar."""
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


def _episode(report: EpisodeReport) -> str:
    episode, failure = report.episode, report.episode.failure
    title = f'<span class="failed">{escape(failure.title)}</span>' if failure else escape(episode.outcome)
    explanation = f"<pre>{escape(failure.explanation)}</pre>" if failure else ""
    rows = "\n".join(
        f"<tr{' class=client' if entry.who == 'client' else ''}><td>{format_elapsed(entry)}</td>"
        f"<td>{escape(entry.who)}</td><td>{escape(entry.what)}</td></tr>"
        for entry in episode.timeline
    )
    return f"""\
<details{" open" if failure else ""}>
<summary>Run {report.run}: {title}</summary>
{explanation}
<p>{escape(str(report.scenario))}</p>
<pre>{escape(report.command)}</pre>
<div class="wide"><table>
<tr><th>elapsed</th><th>who</th><th>what</th></tr>
{rows}
</table></div>
</details>"""
