"""The page's style sheet: bright and dark screens, telephones, paper."""

from __future__ import annotations

CSS = """
:root{--bg:#f6f7f9;--card:#fff;--ink:#1c2330;--soft:#5b6675;--rule:#dde2e9;--grid:#e8ebf0;
--c0:#2563c9;--c1:#d9660b;--c2:#0d8a6a;--c3:#b03a9b;--c4:#8a6d00;--c5:#6a7485;
--good:#177245;--care:#a65b00;--bad:#b3261e;--pale:#b9c2ce;--fade:#c9d1dc;--tint:#eaf1fc}
@media (prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2029;--ink:#e4e9f0;--soft:#9aa7b8;--rule:#303947;
--grid:#2a323e;--c0:#6fa8ff;--c1:#ff9d4d;--c2:#3ecfa3;--c3:#e58ad6;--c4:#d9bb4a;--c5:#93a0b3;--good:#54c98c;
--care:#f0a54a;--bad:#ff7a70;--pale:#64738a;--fade:#3d4858;--tint:#202c3f}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",
"Liberation Sans","DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 20px 48px}
h1{font-size:1.75rem;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:0 0 4px}
h3{font-size:1rem;margin:20px 0 6px}
p{margin:6px 0}
code,pre{font-family:ui-monospace,"SFMono-Regular",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.84em}
.soft{color:var(--soft)}
.small{font-size:.86rem}
header{margin-bottom:18px}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:10px;font-size:.9rem}
a{color:var(--c0);text-decoration:none}
a:hover{text-decoration:underline}
section{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:18px 20px;margin:14px 0}
.verdict{border-left:6px solid var(--good)}
.verdict.care{border-left-color:var(--care)}
.verdict.bad{border-left-color:var(--bad)}
.verdict h2{font-size:1.5rem;line-height:1.25}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:10px;margin:16px 0}
.tile{background:var(--bg);border-radius:8px;padding:10px 12px;min-width:0}
.tile b{display:block;font-size:1.3rem;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.82rem;overflow-wrap:anywhere}
ul.findings{list-style:none;margin:8px 0 0;padding:0}
ul.findings li{padding:3px 0 3px 26px;position:relative;overflow-wrap:anywhere}
ul.findings li::before{position:absolute;left:2px;font-weight:700}
li.good::before{content:"✓";color:var(--good)}
li.care::before{content:"!";color:var(--care);left:6px}
li.bad::before{content:"✗";color:var(--bad)}
li.note::before{content:"·";color:var(--soft);left:6px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:8px 24px}
.charts.small-multiples{grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr))}
figure{margin:10px 0 4px;min-width:0}
figcaption{font-weight:600;font-size:.92rem;margin-bottom:2px;overflow-wrap:anywhere}
figure>svg{width:100%;height:auto;display:block}
.wide{overflow-x:auto}
.wide figure>svg{min-width:620px}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans","DejaVu Sans",sans-serif;
fill:var(--soft)}
svg .name{fill:var(--ink)}
svg .halo{paint-order:stroke;stroke:var(--card);stroke-width:3px}
svg path{fill:none}
svg .axis{stroke:var(--soft);stroke-width:1}
svg .grid{stroke:var(--grid);stroke-width:1}
svg .band{fill:var(--fade);fill-opacity:.5}
svg .line{stroke-width:2;stroke-linejoin:round}
svg .dots{stroke-width:4.5;stroke-linecap:round;stroke-opacity:.55}
svg .dot{fill-opacity:.85}
.line.c0,.dots.c0{stroke:var(--c0)}.line.c1,.dots.c1{stroke:var(--c1)}.line.c2,.dots.c2{stroke:var(--c2)}
.line.c3,.dots.c3{stroke:var(--c3)}.line.c4,.dots.c4{stroke:var(--c4)}.line.c5,.dots.c5{stroke:var(--c5)}
.line.pale{stroke:var(--pale);stroke-width:1;stroke-opacity:.8}.dots.pale{stroke:var(--pale)}
.line.ink{stroke:var(--ink);stroke-width:2.5}.dots.bad{stroke:var(--bad)}
.dot.c0,.fill.c0{fill:var(--c0)}.dot.c1,.fill.c1{fill:var(--c1)}.dot.c2,.fill.c2{fill:var(--c2)}
.dot.c3,.fill.c3{fill:var(--c3)}.dot.c4,.fill.c4{fill:var(--c4)}.dot.c5,.fill.c5{fill:var(--c5)}
.dot.pale,.fill.pale{fill:var(--pale)}.dot.bad,.fill.bad{fill:var(--bad)}.dot.ink,.fill.ink{fill:var(--ink)}
.fill.good{fill:var(--good)}.fill.care{fill:var(--care)}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.82rem;color:var(--soft);padding-left:6px}
.legend svg{width:10px;height:10px;margin-right:5px}
.scroll{overflow-x:auto;margin:8px 0}
table{border-collapse:collapse;font-size:.88rem;min-width:100%}
th,td{padding:4px 12px 4px 0;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap;
font-variant-numeric:tabular-nums}
th{font-weight:600;color:var(--soft)}
th:first-child,td:first-child{text-align:left}
td.words,th.words{text-align:left;white-space:normal;min-width:14em;overflow-wrap:anywhere}
tr.group th{color:var(--ink);padding-top:12px}
td.changed{background:var(--tint)}
.level-error,.level-failed{color:var(--bad)}.level-warning{color:var(--care)}
pre{background:var(--bg);border-radius:8px;padding:12px;margin:8px 0;white-space:pre-wrap;overflow-wrap:anywhere}
details summary{cursor:pointer;color:var(--c0);margin-top:10px}
footer{color:var(--soft);font-size:.84rem;text-align:center;padding-top:8px}
@media (max-width:600px){main{padding:14px 10px 32px}section{padding:14px 12px;border-radius:8px}
h1{font-size:1.4rem}.verdict h2{font-size:1.22rem}.tiles{grid-template-columns:1fr 1fr}
svg text{font-size:14px}.small-multiples svg text,.wide svg text{font-size:12px}}
@media print{@page{margin:14mm}
:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--rule:#bbb;--grid:#ddd;--c0:#2563c9;--c1:#d9660b;--c2:#0d8a6a;
--c3:#b03a9b;--c4:#8a6d00;--c5:#6a7485;--good:#177245;--care:#a65b00;--bad:#b3261e;--pale:#b9c2ce;--fade:#c9d1dc;
--tint:#eef3fb}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
body{font-size:10.5pt}main{padding:0;max-width:none}nav,details summary{display:none}
section{border:0;border-radius:0;padding:0;margin:0 0 16px}.verdict{border-left:4px solid var(--good);padding-left:12px}
figure,tr,li,.tile{break-inside:avoid}h2,h3{break-after:avoid}
.tile,pre{border:1px solid var(--rule)}.tiles{grid-template-columns:repeat(7,1fr);gap:6px}.tile{padding:6px}
.tile b{font-size:11pt}.tile span{font-size:7.5pt}figcaption{font-size:9pt}.legend{font-size:8pt}
.scroll,.wide{overflow:visible}.wide figure>svg{min-width:0}
.charts{grid-template-columns:1fr 1fr}.charts.small-multiples{grid-template-columns:1fr 1fr 1fr}
table{font-size:8.5pt}th,td{padding:2px 8px 2px 0;white-space:normal}}
"""
