"""How pages look: the style sheet."""

__all__ = ["CSS"]

# On a narrow screen pictures and tables keep a size that can be read, and scroll sideways.
CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --page: #fff; --soft: #59636e; --line: #d5dae0;
  --tint: #f3f5f7; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --page: #14171a; --soft: #a0a8b0;
  --line: #363c43; --tint: #1e2328; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem; color: var(--ink);
  background: var(--page); font: 1.05rem/1.6 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.4rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; overflow-wrap: anywhere; }
p, ul, dl, figcaption { max-width: 46rem; }
a { color: inherit; }
li { margin: .3rem 0; }
dt { font-weight: 600; margin-top: .6rem; }
dd { margin: 0 0 0 1.2rem; }
code { font-family: ui-monospace, monospace; }
pre { background: var(--tint); padding: .8rem 1rem; overflow-x: auto; border-radius: 6px;
  font-size: .95rem; }
.wide { overflow-x: auto; }
figure { margin: 0 0 1.6rem; }
figure img { width: 100%; min-width: 34rem; height: auto; display: block; background: #fff;
  border-radius: 6px; border: 1px solid var(--line); }
figcaption, .tiny { color: var(--soft); font-size: .93rem; margin-top: .4rem; }
summary { cursor: pointer; margin: .4rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; }
th[scope], .key { text-align: left; }
thead th { white-space: normal; vertical-align: bottom; }
thead { border-bottom: 2px solid var(--line); }
th[scope=row] { font-weight: normal; white-space: pre; }
th[scope=rowgroup] { background: var(--tint); }
th span, td span { font-weight: normal; color: var(--soft); }
colgroup + colgroup { border-left: 1px solid var(--line); }
tbody:only-of-type tr:nth-child(even) { background: var(--tint); }
tbody:not(:only-of-type) th[scope=row] { padding-left: 1.2rem; }
.tinted td { background: color-mix(in srgb, #56B4E9 var(--share, 0%), transparent); }
.tinted { margin-bottom: 1.2rem; }
.tinted th[colspan] { text-align: center; }
.tinted tbody tr:nth-child(even) { background: none; }
.text th { vertical-align: top; }
.text td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
@media (max-width: 40rem) { h1 { font-size: 1.5rem; } .short { font-size: .75rem; }
  .short th, .short td { padding: .2rem .25rem; } .short th[scope=row] { white-space: normal; } }
"""
