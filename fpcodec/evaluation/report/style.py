"""What every page carries inside itself: its style and the few lines that sort tables."""

from __future__ import annotations

from fpcodec.evaluation.report.palette import DARK

_LIGHT_COLOURS = "".join(f"--c-{x[1:]}:{x};" for x in DARK)
_DARK_COLOURS = "".join(f"--c-{x[1:]}:{dark};" for x, dark in DARK.items())

CSS = f"""
:root{{color-scheme:light dark;--page:#fff;--ink:#1f2328;--soft:#57606a;--rule:#d8dde3;
--band:#f5f7f9;--ours:#fdf0e6;{_LIGHT_COLOURS}}}
@media(prefers-color-scheme:dark){{:root{{--page:#14181d;--ink:#e6e9ed;--soft:#9aa4af;
--rule:#343c46;--band:#1c2229;--ours:#33241a;{_DARK_COLOURS}}}}}
*{{box-sizing:border-box}}
body{{margin:0 auto;max-width:72rem;padding:1rem;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:break-word}}
h1{{font-size:1.6rem;line-height:1.2;margin:.5rem 0}}
h2{{font-size:1.35rem;margin:2.2rem 0 .4rem;padding-top:.8rem;border-top:2px solid var(--rule)}}
h3{{font-size:1.08rem;margin:1.6rem 0 .4rem}}
p,ul{{max-width:48rem}}
ul{{padding-left:1.2rem}}
li{{margin:.3rem 0}}
.soft,figcaption{{color:var(--soft);font-size:.88rem}}
nav a{{margin-right:1rem}}
a{{color:var(--c-1b4f9c)}}
figure{{margin:1rem 0;max-width:46rem}}
svg{{display:block;width:100%;height:auto;background:transparent}}
svg text{{font-family:system-ui,sans-serif!important}}
.grid{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr));gap:1rem}}
.grid figure{{margin:0}}
.scroll{{overflow-x:auto;border:1px solid var(--rule);border-radius:6px;margin:.6rem 0;
width:fit-content;max-width:100%}}
table{{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}}
th,td{{padding:.3rem .6rem;text-align:right;white-space:nowrap;
border-bottom:1px solid var(--rule)}}
th{{background:var(--band)}}
th:first-child,td:first-child{{text-align:left;position:sticky;left:0;background:var(--page)}}
th:first-child{{background:var(--band)}}
tr.ours td{{background:var(--ours)}}
tbody tr:last-child td{{border-bottom:0}}
th button{{all:unset;cursor:pointer;font-weight:600}}
th button:focus-visible{{outline:2px solid currentColor}}
th[aria-sort=ascending] button::after{{content:" ▲"}}
th[aria-sort=descending] button::after{{content:" ▼"}}
code{{font-size:.85rem;overflow-wrap:anywhere}}
pre{{white-space:pre-wrap;background:var(--band);padding:.6rem;border-radius:6px}}
details{{margin:.6rem 0}}
summary{{cursor:pointer}}
dl{{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;font-size:.9rem}}
dt{{color:var(--soft)}}
dd{{margin:0;overflow-wrap:anywhere}}
@media print{{.scroll{{overflow:visible}}}}
"""

SORTING = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const th = button.parentElement, table = th.closest("table"), body = table.tBodies[0];
  const up = th.ariaSort !== "ascending", at = th.cellIndex;
  for (const other of th.parentElement.cells) other.removeAttribute("aria-sort");
  th.ariaSort = up ? "ascending" : "descending";
  const key = row => { const v = row.cells[at].dataset.v;
    return v === undefined ? row.cells[at].textContent : +v; };
  const empty = row => row.cells[at].textContent === "" || row.cells[at].textContent === "-";
  const order = (a, b) => empty(a) - empty(b) || (up ? 1 : -1) * (typeof key(a) === "number" &&
    typeof key(b) === "number" ? key(a) - key(b) : ("" + key(a)).localeCompare("" + key(b)));
  body.append(...[...body.rows].sort(order));
};
"""
