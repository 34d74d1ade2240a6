// Edges between cards: from a store to the load that read it although it was old, between the two sides of a race,
// and, under the pointer, from the store that a load read.
const main = document.querySelector('main'), svg = document.querySelector('svg.edges');
const row = i => document.querySelector(`.row[data-i="${i}"]`);
const card = r => r && r.querySelector('.card');

function edge(from, to, kind) {
  const a = card(from), b = card(to);
  if (!a || !b || !a.offsetParent || !b.offsetParent) return;
  const base = main.getBoundingClientRect(), p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
  const right = q.left >= p.right, left = q.right <= p.left;
  const x1 = (right ? p.right : left ? p.left : p.right) - base.left, y1 = p.top + p.height / 2 - base.top;
  const x2 = (right ? q.left : left ? q.right : q.right) - base.left, y2 = q.top + q.height / 2 - base.top;
  const bend = right || left ? (x2 - x1) / 2 : 28;
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', `M${x1},${y1} C${x1 + bend},${y1} ${right || left ? x2 - bend : x2 + bend},${y2} ${x2},${y2}`);
  path.setAttribute('class', kind);
  if (kind !== 'race') path.setAttribute('marker-end', `url(#tip-${kind})`);
  svg.append(path);
}

function draw(under) {
  svg.querySelectorAll(':scope > path').forEach(path => path.remove());
  document.querySelectorAll('.row.old[data-from]').forEach(r => edge(row(r.dataset.from), r, 'old'));
  const pair = [...document.querySelectorAll('.row.race')];
  for (let i = 1; i < pair.length; i++) edge(pair[i - 1], pair[i], 'race');
  document.querySelectorAll('.card.lit').forEach(c => c.classList.remove('lit'));
  document.querySelectorAll('.card.same').forEach(c => c.classList.remove('same'));
  if (!under) return;
  if (under.dataset.at)
    document.querySelectorAll(`.row[data-at="${under.dataset.at}"] .card`).forEach(c => c.classList.add('same'));
  const readers = under.dataset.from !== undefined ? [under] : [...document.querySelectorAll(`.row[data-from="${under.dataset.i}"]`)];
  for (const r of readers) {
    if (!r.classList.contains('old')) edge(row(r.dataset.from), r, 'reads');
    for (const end of [row(r.dataset.from), r]) card(end)?.classList.add('lit');
  }
}

main.addEventListener('mouseover', event => draw(event.target.closest('.row[data-i]')));
main.addEventListener('mouseleave', () => draw());
document.getElementById('all').addEventListener('change', () => draw());
addEventListener('resize', () => draw());
draw();
