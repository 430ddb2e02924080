// What every page does: instants in the visitor's own zone.

/** Writes instants of a part of the page as the visitor's language and zone have them; the exact one is the title. */
function localize(root = document) {
  const moment = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
  const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });
  for (const time of root.querySelectorAll('time[datetime]')) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = time.dateTime;
    time.textContent = ('day' in time.dataset ? day : moment).format(at);
  }
}

localize();
// A part of the page was fetched anew.
document.addEventListener('fresh', (event) => localize(event.target));
