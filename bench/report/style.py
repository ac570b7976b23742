"""The style sheet and the script of the report page; both are embedded, the page loads nothing."""

CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --faint: #5f6973; --line: #e3e6ea; --band: #f6f7f9;
  --accent: #d9480f; --good: #2b8a3e; --bad: #c92a2a; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e6e8eb; --faint: #9aa4af; --line: #2c323a;
  --band: #1c2026; --accent: #ff922b; --good: #69db7c; --bad: #ff8787; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 88rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .6rem; }
p, li { max-width: 60rem; }
.faint { color: var(--faint); font-size: .92rem; }
.warning { border-left: 4px solid var(--bad); padding: .3rem .8rem; background: var(--band); margin: .5rem 0; }
nav a { margin-right: 1.1rem; }
a { color: var(--accent); }
figure { margin: 1.2rem 0; overflow-x: auto; }
figure img { max-width: 100%; height: auto; display: block; }
details { margin: .5rem 0; border-top: 1px solid var(--line); padding-top: .5rem; }
summary { cursor: pointer; font-weight: 600; }
.scroll { overflow-x: auto; margin: .7rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .65rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: var(--band); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child, .left { text-align: left; }
.sortable th { cursor: pointer; user-select: none; }
.sortable th[aria-sort=ascending]::after { content: " \\25B2"; font-size: .7em; }
.sortable th[aria-sort=descending]::after { content: " \\25BC"; font-size: .7em; }
tbody tr:hover { background: var(--band); }
.ours { font-weight: 600; }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
.wrap { white-space: normal; min-width: 16rem; }
.edge { border-left: 2px solid var(--line); }
code { font-size: .92em; }
"""

SCRIPT = """
document.querySelectorAll('table.sortable').forEach(table => {
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column], value = cell.dataset.value;
    return value === undefined ? cell.textContent : value === '' ? Infinity : Number(value);
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute('aria-sort') === 'ascending';
      [...table.tHead.rows[0].cells].forEach(other => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      [...body.rows].sort((a, b) => {
        const x = key(a, column), y = key(b, column);
        const numbers = typeof x === 'number' && typeof y === 'number';
        const order = numbers ? (x === y ? 0 : x - y) : String(x).localeCompare(y);
        return down ? -order : order;
      }).forEach(row => body.append(row));
    };
    head.addEventListener('click', sort);
    head.addEventListener('keydown', event => { if (event.key === 'Enter') sort(); });
  });
});
"""
