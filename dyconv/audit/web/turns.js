// Lists of turns and what a reviewer does to them. Nothing here touches the page; every function gives a new list, or null
// where there is nothing to do. Times are seconds to the millisecond; turns of one person never overlap each other.
export const FRAME = 0.04;
const LEAST = 0.04; // a turn is never made shorter than a frame
const exact = (value) => Math.round(value * 1000) / 1000;

export function ordered(turns) {
  return [...turns].sort((a, b) => a.start_s - b.start_s || a.end_s - b.end_s || String(a.person).localeCompare(String(b.person)));
}

function others(turns, turn, person = turn.person) {
  return person === null ? [] : turns.filter((other) => other !== turn && other.person === person);
}

function changed(turns, turn, made) {
  return ordered(turns.map((other) => (other === turn ? made : other)));
}

// A turn with other edges, held inside the clip and off the same person's neighbours.
export function resized(turns, turn, start, end, duration) {
  const middle = (turn.start_s + turn.end_s) / 2;
  let low = 0;
  let high = duration;
  for (const other of others(turns, turn)) {
    if (other.start_s < middle) low = Math.max(low, other.end_s);
    else high = Math.min(high, other.start_s);
  }
  const from = exact(Math.min(Math.max(start, low), turn.end_s === end ? end - LEAST : high - LEAST));
  const to = exact(Math.max(Math.min(end, high), from + LEAST));
  if (from === turn.start_s && to === turn.end_s) return null;
  return changed(turns, turn, { ...turn, start_s: from, end_s: Math.min(to, exact(high)), corrected: true });
}

export function added(turns, person, start, end, duration) {
  let low = 0;
  let high = duration;
  const middle = (start + end) / 2;
  for (const other of others(turns, null, person)) {
    if (other.start_s <= middle && middle < other.end_s) return null;
    if (other.end_s <= middle) low = Math.max(low, other.end_s);
    else high = Math.min(high, other.start_s);
  }
  const from = exact(Math.max(start, low));
  const to = exact(Math.min(end, high));
  if (to - from < LEAST - 1e-6) return null;
  return ordered([...turns, { person, start_s: from, end_s: to, unsure: person === null, corrected: true }]);
}

export function removed(turns, turn) {
  return turns.filter((other) => other !== turn);
}

// The turn given to somebody else; what that person says in the same time becomes one turn with it.
export function given(turns, turn, person) {
  if (turn.person === person) return null;
  const joined = { ...turn, person, unsure: person === null, corrected: true };
  let rest = removed(turns, turn);
  for (const other of others(turns, turn, person)) {
    if (other.start_s < joined.end_s && joined.start_s < other.end_s) {
      joined.start_s = Math.min(joined.start_s, other.start_s);
      joined.end_s = Math.max(joined.end_s, other.end_s);
      rest = removed(rest, other);
    }
  }
  return ordered([...rest, joined]);
}

export function next(turns, turn) {
  return turns.find((other) => other.person === turn.person && other !== turn && other.start_s >= turn.end_s - 1e-6) || null;
}

export function merged(turns, turn) {
  const other = next(turns, turn);
  if (!other) return null;
  return changed(removed(turns, other), turn, { ...turn, end_s: other.end_s, corrected: true });
}

export function split(turns, turn, at) {
  const place = exact(at);
  if (place - turn.start_s < LEAST - 1e-6 || turn.end_s - place < LEAST - 1e-6) return null;
  const second = { ...turn, start_s: place, corrected: true };
  return ordered([...changed(turns, turn, { ...turn, end_s: place, corrected: true }), second]);
}

export function plain(turns) {
  return turns.map(({ person, start_s, end_s, unsure }) => ({ person, start_s, end_s, unsure: Boolean(unsure) && person === null }));
}

// The same turn in another list: the one of that person that shares most time with it.
export function matching(turns, turn) {
  if (!turn) return null;
  const shared = (other) => Math.min(other.end_s, turn.end_s) - Math.max(other.start_s, turn.start_s);
  const near = turns.filter((other) => shared(other) > 0);
  near.sort((a, b) => (b.person === turn.person) - (a.person === turn.person) || shared(b) - shared(a));
  return near[0] || null;
}

// What the record says of turns that a reviewer left as they were: confidence, and how far lips and voice agree.
export function withEvidence(turns, recorded) {
  const same = (a, b) => a.person === b.person && a.start_s === b.start_s && a.end_s === b.end_s;
  return ordered(
    turns.map((turn) => {
      const known = recorded.find((other) => same(other, turn));
      return known ? { ...known } : { ...turn, confidence: 1, agreement: null, corrected: true };
    }),
  );
}
