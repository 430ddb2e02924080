// Keeps a page's live part fresh: the server says that something changed, the part is fetched again and takes the place of
// the old one. Focus and scroll stay where they are; rows that changed are marked for a moment.

const part = document.querySelector('[data-live]');
const state = document.querySelector('[data-live-state]');
/** The part is fetched at most this often. */
const APART_MS = 1000;
const MARKED_MS = 4000;

let fetching = false;
let due = false;
let last = 0;
let lost = false;

function say(name, text) {
  if (!state) return;
  state.hidden = false;
  state.dataset.is = name;
  if (state.textContent !== text) state.textContent = text;
}

function retry(text) {
  say('lost', text);
  lost = true;
  setTimeout(() => changed('*'), 5 * APART_MS);
}

/** Whether a change concerns this page: `*` is anything, else tokens of customers. */
function concerns(told) {
  const only = part.dataset.live;
  return !only || told === '*' || told.split(' ').includes(only);
}

function changed(told) {
  if (!concerns(told)) return;
  due = true;
  if (document.hidden || fetching) return;
  fetching = true;
  setTimeout(refresh, Math.max(0, last + APART_MS - Date.now()));
}

/** Whether the visitor fills in a form of the part: what they wrote must not be lost. */
function isWriting() {
  const fields = [...part.querySelectorAll('form :is(input:not([type="hidden"]), textarea, select)')];
  return fields.some((field) => {
    if (field === document.activeElement) return true;
    return 'defaultValue' in field ? field.value !== field.defaultValue : field.selectedIndex > 0;
  });
}

async function refresh() {
  if (isWriting()) return void setTimeout(refresh, 2 * APART_MS);
  due = false;
  last = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { 'x-dashboard-part': '1' }, credentials: 'same-origin' });
    if (answer.status === 401 || answer.status === 404) return location.reload();
    if (answer.ok) swap(await answer.text());
    else retry('The server cannot answer now. Trying again…');
  } catch {
    retry('Connection lost. Trying again…');
  }
  fetching = false;
  if (due) changed('*');
}

function swap(html) {
  if (isWriting()) return void (due = true);
  const before = new Map([...part.querySelectorAll('[data-row]')].map((row) => [row.dataset.row, row.dataset.is]));
  const focused = part.contains(document.activeElement) ? document.activeElement.id : '';
  const folds = [...part.querySelectorAll('details[id]')].map((details) => [details.id, details.open]);
  if (lost) say('live', 'Live again');
  lost = false;
  const fresh = new DOMParser().parseFromString(html, 'text/html');
  part.replaceChildren(...fresh.body.childNodes);
  part.dispatchEvent(new CustomEvent('fresh', { bubbles: true }));
  for (const [id, open] of folds) document.getElementById(id)?.toggleAttribute('open', open);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  for (const row of part.querySelectorAll('[data-row]')) {
    if (before.get(row.dataset.row) === row.dataset.is) continue;
    row.classList.add('changed');
    setTimeout(() => row.classList.remove('changed'), MARKED_MS);
  }
}

if (part) {
  const source = new EventSource('/dashboard/live');
  source.addEventListener('ready', () => {
    say('live', lost ? 'Live again' : 'Live');
    // What happened before, or meanwhile, was told to nobody.
    changed('*');
  });
  source.addEventListener('changed', (event) => changed(event.data));
  source.addEventListener('signed-out', () => location.reload());
  source.onerror = () => {
    lost = true;
    say('lost', 'Connection lost. Trying again…');
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 15000);
  };
  // What is nobody's change of score: a first customer, silence, somebody else's note.
  setInterval(() => changed('*'), part.querySelector('.empty') ? 5000 : 60000);
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && due) changed('*');
  });
  addEventListener('pagehide', () => source.close());
  addEventListener('pageshow', (event) => event.persisted && location.reload());
}
