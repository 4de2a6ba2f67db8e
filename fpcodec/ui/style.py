"""The page's style sheet; colours follow the visitor's light or dark theme."""

from __future__ import annotations

CSS = """
.gradio-container{--fpc-ink:#1f2328;--fpc-soft:#545d68;--fpc-rule:#d8dde3;--fpc-card:#f6f8fa;
--fpc-ours:#b8480a;--fpc-picture:#1b4f9c;--fpc-boxes:#1f2328;--fpc-header:#8b949e;
--fpc-focus:#0b57d0;--fpc-good:#116329;--fpc-warn:#8a4600;--fpc-bad:#a40e26;--fpc-badback:#fff0ee}
.dark .gradio-container,.gradio-container.dark{--fpc-ink:#e6e9ed;--fpc-soft:#a9b3be;
--fpc-rule:#343c46;--fpc-card:#1c2229;--fpc-ours:#ff9248;--fpc-picture:#7fb0ff;
--fpc-boxes:#e6e9ed;--fpc-header:#8b949e;--fpc-focus:#9cc2ff;--fpc-good:#6fce96;--fpc-warn:#f0b76a;
--fpc-bad:#ff9a9a;--fpc-badback:#3a1d1d}
.fpc,.fpc h1,.fpc h2,.fpc h3,.fpc p,.fpc td,.fpc th,.fpc dd{color:var(--fpc-ink)}
.fpc h1{font-size:1.6rem;line-height:1.2;margin:.2rem 0 .4rem;font-weight:700}
.fpc h2,h2.fpc{font-size:1.15rem;margin:.6rem 0 .5rem;font-weight:650;color:var(--fpc-ink)}
.fpc h3{font-size:1rem;margin:0;font-weight:650}
.fpc p{margin:.35rem 0;max-width:60rem;line-height:1.45}
#reasons-title{scroll-margin-top:1rem}
.fpc .soft,.fpc.soft{color:var(--fpc-soft);font-size:.86rem}
.fpc figure{margin:0}
.fpc figcaption{color:var(--fpc-ink);font-size:.9rem;margin:0 0 .35rem}
.fpc img+figcaption{margin:.35rem 0 0}
.fpc img{display:block;width:100%;height:auto;border-radius:4px}
.fpc .two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(17rem,100%),1fr));gap:1rem}
.fpc .two.near{grid-template-columns:repeat(auto-fit,minmax(min(11rem,100%),1fr))}
.fpc .over{position:relative}
.fpc .over .box{position:absolute;background:transparent;border:0;padding:0;cursor:pointer;
min-width:10px;min-height:10px;border-radius:2px}
.fpc .over .box:hover{background:#ffffff38}
.fpc .over .box:focus-visible{outline:3px solid #fff;box-shadow:0 0 0 6px #0b57d0}
.fpc .over .box.chosen{outline:4px solid #fff;box-shadow:0 0 0 8px #b3005e}
.fpc.banner{border:2px solid var(--fpc-warn);background:var(--fpc-card);max-width:none;
padding:.5rem .8rem;border-radius:4px;margin:.3rem 0}
.gradio-container input[type=range]:focus-visible,.gradio-container input[type=radio]:focus-visible,
.gradio-container input[type=checkbox]:focus-visible,.fpc summary:focus-visible{
outline:3px solid var(--fpc-focus)!important;outline-offset:3px}
.fpc.message{border-left:4px solid var(--fpc-good);background:var(--fpc-card);max-width:none;
padding:.5rem .8rem;border-radius:4px;margin:0}
.fpc.message.error{border-color:var(--fpc-bad);background:var(--fpc-badback);color:var(--fpc-bad)}
.fpc.message.error b{color:var(--fpc-bad)}
.fpc-live{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.fpc .hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.fpc .facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(8.6rem,100%),1fr));
gap:.6rem;margin:0}
.fpc .fact{background:var(--fpc-card);border-radius:6px;padding:.55rem .8rem}
.fpc .fact dt{color:var(--fpc-soft);font-size:.84rem}
.fpc .fact dd{margin:0}
.fpc .fact b{display:block;font-size:1.4rem;line-height:1.25;font-weight:650}
.fpc .cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(14rem,100%),1fr));
gap:.8rem;list-style:none;margin:0;padding:0}
.fpc .card{background:var(--fpc-card);border-radius:6px;padding:.6rem .8rem;
border-top:4px solid var(--fpc-header);margin:0}
.fpc .card.sent{border-color:var(--fpc-good)}
.fpc .card.sent b{color:var(--fpc-good)}
.fpc .card.recovered{border-color:var(--fpc-warn);border-top-style:dashed}
.fpc .card.recovered b{color:var(--fpc-warn)}
.fpc .thumbs{display:grid;grid-template-columns:repeat(2,1fr);gap:.5rem}
.fpc .thumbs img{image-rendering:pixelated}
.fpc .thumbs figcaption{font-size:.8rem;color:var(--fpc-soft);margin:.2rem 0 0}
.fpc .patch{display:inline-block;width:.85em;height:.85em;border-radius:2px;margin-right:.4em;
vertical-align:-.05em;border:1px solid #0005}
.fpc ul.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;margin:.3rem 0;padding:0;
font-size:.86rem;color:var(--fpc-ink)}
.fpc ul.legend li{margin:0;color:var(--fpc-ink)}
.fpc ul.legend svg{display:inline-block;vertical-align:-3px;margin-right:.3em}
.fpc p.legend{margin-bottom:0}
.fpc table,.fpc tr,.fpc thead{border:0}
.fpc table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
.fpc caption{text-align:left;font-weight:600;padding:.2rem 0;color:var(--fpc-ink)}
.fpc th,.fpc td{border:0;border-bottom:1px solid var(--fpc-rule);padding:.3rem .5rem .3rem 0;
text-align:left;font-weight:400;vertical-align:middle}
.fpc thead th{color:var(--fpc-soft);font-size:.82rem}
.fpc .bars th[scope=row]{width:8.2rem;font-weight:600}
.fpc .bars th .soft{display:block;font-weight:400;font-size:.78rem}
.fpc .bars td:last-child{width:5rem}
.fpc .bars abbr{text-decoration:none}
.fpc .bar{display:flex;height:1.15rem}
.fpc .bar span{min-width:2px;height:100%}
.fpc .number{font-size:.84rem}
.fpc.honest{border:1px solid var(--fpc-ours);border-radius:6px;padding:.5rem .8rem;
margin:.6rem 0 0;max-width:none}
.fpc details{margin:.4rem 0}
.fpc summary{cursor:pointer;color:var(--fpc-soft);font-size:.86rem}
.fpc code{font-size:.86em}
.fpc svg.curve{display:block;width:100%;height:auto}
.fpc svg text{fill:var(--fpc-ink);font-size:13px;font-family:inherit}
.fpc svg .grid{stroke:var(--fpc-rule)}
.fpc svg .unsplit{stroke:var(--fpc-ink);stroke-dasharray:3 3}
.fpc svg .mine{stroke:var(--fpc-ours);stroke-width:2;stroke-dasharray:2 4}
.fpc svg .here{fill:none;stroke:var(--fpc-ink);stroke-width:2.5}
.fpc svg polyline{fill:none;stroke-width:2}
.fpc svg polyline.features{stroke:var(--fpc-ours)}.fpc svg circle.features{fill:var(--fpc-ours)}
.fpc svg polyline.picture{stroke:var(--fpc-picture)}.fpc svg rect.picture{fill:var(--fpc-picture)}
.fpc svg polyline.boxes{stroke:var(--fpc-boxes)}.fpc svg path.boxes{fill:var(--fpc-boxes)}
.fpc.status{border:1px solid var(--fpc-rule);border-radius:6px;padding:.5rem .8rem;margin:0;
max-width:none}
.dark button[role=tab].selected{color:#9cc2ff!important}
/* Gradio lets the mark of a chosen one vanish under the pointer. */
.gradio-container input[type=radio]:checked,.gradio-container input[type=checkbox]:checked{
background-color:var(--checkbox-background-color-selected)!important;
border-color:var(--checkbox-border-color-selected)!important}
/* Hidden, as Gradio has it, nothing within sticks to the window. */
.gradio-container{overflow:clip!important}
@media(min-width:1000px){.fpc-side{position:sticky;top:.6rem;align-self:flex-start}}
"""
