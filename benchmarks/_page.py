"""The look of the page: its style sheet, and the few lines of script that hand the charts to plotly."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #5b6675; --paper: #ffffff; --card: #f5f7fa;
  --rule: #dde3ea; --good: #00795a; --bad: #b84a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --quiet: #9aa6b5; --paper: #12161c; --card: #1a2029;
  --rule: #2c3542; --good: #35c79a; --bad: #ff8a4c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: 0.5rem 0 0.25rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.25rem; }
p { margin: 0.25rem 0; overflow-wrap: anywhere; }
.quiet { color: var(--quiet); font-size: 0.9rem; }
.verdict { font-size: 1.1rem; padding: 0.6rem 0.8rem; margin: 0.6rem 0; background: var(--card);
  border-left: 4px solid var(--quiet); border-radius: 4px; overflow-wrap: anywhere; }
.faster { border-color: var(--good); } .slower { border-color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr));
  gap: 0.75rem; margin: 1rem 0; }
.card { background: var(--card); border-radius: 8px; padding: 0.75rem 1rem; border-top: 4px solid var(--colour); }
.card h3 { margin: 0; font-size: 1rem; overflow-wrap: anywhere; }
.card .big { font-size: 1.7rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.card dl { display: grid; grid-template-columns: auto 1fr; gap: 0.1rem 0.75rem; margin: 0.4rem 0 0; font-size: 0.9rem; }
.card dt { color: var(--quiet); } .card dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.checks { list-style: none; padding: 0; margin: 0.5rem 0; }
.checks li { padding: 0.5rem 0.75rem; margin: 0.4rem 0; background: var(--card); border-left: 4px solid var(--bad);
  border-radius: 4px; overflow-wrap: anywhere; }
.checks .none { border-color: var(--good); }
code { font: inherit; white-space: nowrap; }
.chart { width: 100%; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; }
details table { width: 100%; border-collapse: collapse; font-size: 0.85rem; margin: 0.5rem 0; }
details td { border-top: 1px solid var(--rule); padding: 0.25rem 0.5rem 0.25rem 0; vertical-align: top;
  overflow-wrap: anywhere; } details td:first-child { color: var(--quiet); width: 40%; }
"""

SCRIPT = """
const charts = JSON.parse(document.getElementById("charts").textContent);
function draw() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink"), rule = style.getPropertyValue("--rule");
  for (const chart of charts) {
    const layout = Object.assign({}, chart.layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, dragmode: false,
      font: {color: ink, family: "system-ui, sans-serif", size: 13},
      margin: {l: 58, r: 12, t: 8, b: 44},
      legend: {orientation: "h", x: 0, y: 1, yanchor: "bottom", itemsizing: "constant"},
      hovermode: "closest",
    });
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) {
        layout[key] = Object.assign({gridcolor: rule, zerolinecolor: rule, linecolor: rule}, layout[key]);
        layout[key].title = Object.assign({standoff: 6}, layout[key].title);
      }
    }
    Plotly.newPlot(chart.id, chart.data, layout, {responsive: true, displayModeBar: false});
  }
}
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
"""
