"""What is checked of each view: contrast, widths, structure, room."""

from .checks import equal

SCHEMES = ["light", "dark"]
WIDTHS = [320, 360, 768, 1280, 1600]

# The contrast of each piece of text with its background (WCAG 2.1, 1.4.3); returns the bad ones.
CONTRAST = """
const light = c => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
const parts = c => c.match(/[\\d.]+/g).map(Number);
const luminance = c => .2126 * light(c[0]) + .7152 * light(c[1]) + .0722 * light(c[2]);
function background(at) {
  for (; at; at = at.parentElement) {
    const c = parts(getComputedStyle(at).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c;
  }
  return [255, 255, 255];
}
const bad = [];
for (const at of document.querySelectorAll('body *')) {
  const own = [...at.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (!own || !at.checkVisibility() || at.closest('svg, script, style, noscript')) continue;
  const a = luminance(parts(getComputedStyle(at).color)), b = luminance(background(at));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) bad.push(at.textContent + ' ' + ratio.toFixed(2));
}
return bad;
"""

# Elements that a screen reader needs; returns the missing ones.
STRUCTURE = """
const bad = [], visible = at => at.checkVisibility();
for (const name of ['header', 'main', 'footer', 'h1'])
  if (document.querySelectorAll(name).length !== 1) bad.push(name + ' is not there once');
for (const at of [...document.querySelectorAll('section')].filter(visible)) {
  const heading = document.getElementById(at.getAttribute('aria-labelledby'));
  if (!heading || heading.localName !== 'h2') bad.push('a section without a heading');
}
for (const at of [...document.querySelectorAll('svg')].filter(visible))
  if (at.getAttribute('role') !== 'img' || (at.getAttribute('aria-label') || '').length < 10)
    bad.push(at.id + ' has no words');
for (const at of document.querySelectorAll('table'))
  if (!at.caption || [...at.querySelectorAll('th')].some(th => !th.scope)) bad.push('a bare table');
if (!document.documentElement.lang) bad.push('no language');
return bad;
"""

# Cards with more empty room than this between two of their parts, or after the last.
GAPS = """
const ROOM = 80, bad = [];
for (const card of [...document.querySelectorAll('section')].filter(at => at.checkVisibility())) {
  const parts = [...card.children].filter(at => at.checkVisibility()).map(at => at.getBoundingClientRect());
  const box = card.getBoundingClientRect();
  let end = box.top;
  for (const part of [...parts, { top: box.bottom, bottom: box.bottom }]) {
    if (part.top - end > ROOM) bad.push(card.getAttribute('aria-labelledby') + ' ' + Math.round(part.top - end));
    end = part.bottom;
  }
}
return bad;
"""


def schemes(page):
    backgrounds = set()
    for scheme in SCHEMES:
        page.look(scheme)
        backgrounds.add(page.run("return getComputedStyle(document.body).backgroundColor"))
        equal(page.run(CONTRAST), [], f"texts with too little contrast, {scheme}")
    equal(len(backgrounds), 2, "different backgrounds")


def widths(page):
    for width in WIDTHS:
        page.look(width=width)
        measure = "const d = document.documentElement; return [d.scrollWidth, d.clientWidth]"
        scroll, client = page.run(measure)
        assert scroll <= client <= width, f"{scroll} of {client} pixels at {width}"
        equal(page.run(GAPS), [], f"gaps in cards at {width}")
    page.look()
