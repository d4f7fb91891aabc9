"""How a report looks, in light and dark, narrow and wide; and the filter of its table."""

CSS = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59636e;--paper:#fff;--line:#d1d9e0;
--mark:#fff3b0;--efficient:#2a7de1;--frontier:#d9730d;--other:#8b949e;--card:#f6f8fa;--link:#0b57d0}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--paper:#0d1117;
--line:#30363d;--mark:#5a4b00;--efficient:#58a6ff;--frontier:#f0883e;--other:#6e7681;--card:#161b22;--link:#79b8ff}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.6 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;line-height:1.3;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2.2rem 0 .6rem;
border-bottom:1px solid var(--line);padding-bottom:.3rem}h3{font-size:1rem;margin:.2rem 0}
.answer{font-size:1.08rem}.cost,cite,.heading,summary{color:var(--soft)}.cost{font-size:.9rem}
cite{font-style:normal;font-size:.85rem;overflow-wrap:anywhere}a{color:var(--link)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:.8rem;font:.85rem/1.5 ui-monospace,monospace}mark{background:var(--mark);
color:inherit}article{border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;
margin:.8rem 0}li{margin:.35rem 0;overflow-wrap:anywhere}mark:target{outline:2px solid var(--link);
scroll-margin:40vh}summary{cursor:pointer}q{color:var(--ink)}.notes,.missing{
color:var(--soft)}.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;
margin:1rem 0}.card{border:1px solid var(--line);border-radius:8px;padding:.6rem .8rem;
display:flex;flex-direction:column;background:var(--card)}.card strong{font-size:1.25rem;
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}.card span{font-size:.9rem}.card small,
.basis,.legend,caption{color:var(--soft);font-size:.85rem}.basis{margin:.1rem 0 .8rem}
.chart{display:grid;gap:.35rem}.row{display:grid;gap:.1rem .8rem;align-items:center;
grid-template-columns:minmax(6rem,16rem) 1fr 15rem;font-size:.9rem}
.track{position:relative;display:flex;height:1.1rem;background:var(--card);border-radius:3px;
overflow:hidden}.label{overflow-wrap:anywhere}.value{font-variant-numeric:tabular-nums;
color:var(--soft)}.bar{display:block;height:100%;background:var(--other)}
.tefficient{background:var(--efficient)}.tfrontier{background:var(--frontier)}
.tshadow{background:var(--other)}.scenario{background:var(--efficient)}
.whisker{position:absolute;top:45%;height:2px;background:var(--ink)}
.tick{position:absolute;top:2px;bottom:2px;border-radius:2px;background:var(--other)}
.tick.tefficient{background:var(--efficient)}.tick.tfrontier{background:var(--frontier)}
.legend{display:flex;flex-wrap:wrap;gap:1rem;margin:.2rem 0 .6rem}.legend .bar{
display:inline-block;width:.8rem;height:.8rem;border-radius:2px;margin-right:.35rem;
vertical-align:-1px}.filter input{font:inherit;padding:.2rem .5rem;border:1px solid var(--line);
border-radius:6px;background:var(--paper);color:var(--ink)}caption{text-align:left;padding:.3rem 0}
@media(max-width:640px){.row{grid-template-columns:1fr auto}.row .track{grid-column:1/-1;
grid-row:2}}
"""

SCRIPT = """
const box=document.getElementById("filter"),rows=[...document.querySelectorAll("#calls tbody tr")];
if(box){box.closest("[hidden]").hidden=false;const texts=rows.map(r=>r.textContent.toLowerCase());
box.addEventListener("input",()=>{const words=box.value.toLowerCase().split(/\\s+/);let n=0;
rows.forEach((r,i)=>{r.hidden=!words.every(w=>texts[i].includes(w));n+=!r.hidden});
document.getElementById("shown").textContent=n.toLocaleString("en")+" calls"})}
"""
"""Shows the filter only where it works: without scripts the table is whole."""
