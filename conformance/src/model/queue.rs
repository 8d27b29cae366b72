//! The queue of deadlines, compared with a map that is ordered by deadline and arrival.

use std::collections::{BTreeMap, HashMap};

use everbeat_core::{Instant, Key, Queue};

/// Does with a queue what these bytes say, and with a map the same.
///
/// # Errors
/// Where the two first differ.
pub fn compare_queue(bytes: &[u8]) -> Result<(), String> {
    let mut pair = Pair::default();
    for (number, operation) in bytes.chunks_exact(4).enumerate() {
        let [choice, which, amount, scale] = [operation[0], operation[1], operation[2], operation[3]];
        let span = u64::from(amount) << (scale % 50);
        pair.operate(choice, usize::from(which), span)
            .and_then(|()| pair.compare())
            .map_err(|difference| format!("operation {number}, {operation:?}: {difference}"))?;
    }
    pair.drain()
}

#[derive(Default)]
struct Pair {
    queue: Queue<u64>,
    now: u64,
    /// The entries that have a deadline, by that and by when they were given it.
    waiting: BTreeMap<(u64, u64), u64>,
    /// All entries: their keys, and their places among those that wait.
    entries: HashMap<u64, (Key, Option<(u64, u64)>)>,
    /// The values of all entries, in order of arrival.
    values: Vec<u64>,
    /// Keys of entries that are gone.
    gone: Vec<Key>,
    arrivals: u64,
}

impl Pair {
    fn operate(&mut self, choice: u8, which: usize, span: u64) -> Result<(), String> {
        let due = self.now.saturating_add(span);
        match choice % 12 {
            0..=2 => self.insert(due),
            3 => (0..=u64::try_from(which).unwrap_or(0))
                .for_each(|step| self.insert(due.saturating_add(step * 4099))),
            4 => self.insert(u64::MAX),
            5 => {
                let key = self.queue.insert_aside(self.arrivals);
                self.enter(key, None);
            }
            6 | 7 => return self.set_due(which, due),
            8 => return self.remove(which),
            9 => return self.set_aside(which),
            10 => {
                self.now = due;
                return self.pop_all();
            }
            _ => {
                self.now = due;
                return self.put_back_all(span.max(1));
            }
        }
        Ok(())
    }

    fn insert(&mut self, due: u64) {
        let key = self.queue.insert(Instant::from_nanos(due), self.arrivals);
        self.enter(key, Some(due));
    }

    fn enter(&mut self, key: Key, due: Option<u64>) {
        let value = self.arrivals;
        self.values.push(value);
        self.entries.insert(value, (key, None));
        self.arrivals += 1;
        if let Some(due) = due {
            self.wait(value, due);
        }
    }

    /// This entry waits until `due`, behind all others that do.
    fn wait(&mut self, value: u64, due: u64) {
        self.stop_waiting(value);
        self.arrivals += 1;
        let place = (due, self.arrivals);
        self.waiting.insert(place, value);
        self.entries.entry(value).and_modify(|entry| entry.1 = Some(place));
    }

    fn stop_waiting(&mut self, value: u64) {
        let place = self.entries.get_mut(&value).and_then(|entry| entry.1.take());
        place.map(|place| self.waiting.remove(&place));
    }

    fn leave(&mut self, value: u64) {
        self.stop_waiting(value);
        self.values.retain(|other| *other != value);
        self.gone.extend(self.entries.remove(&value).map(|entry| entry.0));
    }

    fn chosen(&self, which: usize) -> Option<(u64, Key)> {
        let value = *self.values.get(which.checked_rem(self.values.len())?)?;
        Some((value, self.entries.get(&value)?.0))
    }

    fn set_due(&mut self, which: usize, due: u64) -> Result<(), String> {
        let Some((value, key)) = self.chosen(which) else { return Ok(()) };
        self.wait(value, due);
        same("known", &true, &self.queue.set_due(key, Instant::from_nanos(due)))
    }

    fn remove(&mut self, which: usize) -> Result<(), String> {
        let Some((value, key)) = self.chosen(which) else { return Ok(()) };
        self.leave(value);
        same("removed", &Some(value), &self.queue.remove(key))
    }

    fn set_aside(&mut self, which: usize) -> Result<(), String> {
        let Some((value, key)) = self.chosen(which) else { return Ok(()) };
        self.stop_waiting(value);
        same("known", &true, &self.queue.set_aside(key))
    }

    /// The first entry, if it is due.
    fn first_due(&self) -> Option<(u64, u64)> {
        let (place, value) = self.waiting.first_key_value()?;
        (place.0 <= self.now && place.0 < u64::MAX).then_some((place.0, *value))
    }

    fn pop_all(&mut self) -> Result<(), String> {
        loop {
            let first = self.first_due();
            let popped = self.queue.pop_due(Instant::from_nanos(self.now));
            same("popped", &first, &popped.map(|(due, value)| (due.as_nanos(), value)))?;
            let Some((_, value)) = first else { return Ok(()) };
            self.leave(value);
        }
    }

    /// What recurs: half of the entries are moved where they are, half are taken aside in between.
    fn put_back_all(&mut self, period: u64) -> Result<(), String> {
        let now = Instant::from_nanos(self.now);
        let next = self.now.saturating_add(period);
        while let Some((due, value)) = self.first_due() {
            let key = if value % 2 == 0 {
                let peeked = self.queue.peek_due(now).map(|(key, value)| (key, *value));
                same("peeked", &Some(value), &peeked.map(|(_, value)| value))?;
                peeked.map(|(key, _)| key)
            } else {
                let taken = self.queue.take_due(now).map(|(key, due, value)| (key, due.as_nanos(), *value));
                same("taken", &Some((due, value)), &taken.map(|(_, due, value)| (due, value)))?;
                taken.map(|(key, _, _)| key)
            };
            self.wait(value, next);
            same(
                "put back",
                &Some(true),
                &key.map(|key| self.queue.set_due(key, Instant::from_nanos(next))),
            )?;
        }
        same("due", &None, &self.queue.peek_due(now).map(|(_, value)| *value))
    }

    fn compare(&mut self) -> Result<(), String> {
        same("length", &self.values.len(), &self.queue.len())?;
        let first = self.waiting.first_key_value().map(|(place, _)| place.0);
        same("next due", &first, &self.queue.next_due().map(Instant::as_nanos))?;
        if let Some(key) = self.gone.last() {
            same("a key that is gone", &None, &self.queue.get(*key))?;
        }
        Ok(())
    }

    /// Everything comes out in order at the end.
    fn drain(&mut self) -> Result<(), String> {
        self.now = u64::MAX - 1;
        self.pop_all()?;
        self.compare()
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, seen: &T) -> Result<(), String> {
    if wanted == seen { Ok(()) } else { Err(format!("{what}: wanted {wanted:?}, seen {seen:?}")) }
}
