//! Where the entries live: chunks of places, so that growing copies nothing and empty chunks are given
//! back.

use alloc::vec::Vec;
use core::num::NonZeroU32;

use super::Key;

/// No entry.
pub(super) const NIL: u32 = u32::MAX;

const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;

/// An entry and its two neighbours in the list that `home` names. 24 bytes beside the value.
///
/// In this order, so that whoever walks along a list and looks at the home brings the value in as well.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct Entry<V> {
    pub(super) due: u64,
    pub(super) next: u32,
    /// The neighbour before it; in the heap, the entry's place there.
    pub(super) prev: u32,
    pub(super) value: V,
    pub(super) home: u32,
    // Never zero, so that a vacant place needs no tag of its own.
    generation: NonZeroU32,
}

impl<V> Entry<V> {
    /// Whether this is the entry that the key names.
    #[inline]
    pub(super) fn has(&self, key: Key) -> bool {
        self.generation == key.generation
    }
}

#[derive(Clone, Debug)]
enum Place<V> {
    Taken(Entry<V>),
    /// With the next vacant place of the same chunk.
    Vacant(u32),
}

#[derive(Clone, Debug)]
struct Chunk<V> {
    /// Without capacity while the chunk is closed.
    places: Vec<Place<V>>,
    vacant: u32,
    live: u32,
    /// The generation given out last. It outlives the memory: old keys stay unknown.
    stamp: u32,
}

/// Entries by index.
#[derive(Clone, Debug)]
pub(super) struct Slab<V> {
    chunks: Vec<Chunk<V>>,
    /// The chunks that are not full. New entries go to the last.
    roomy: Vec<u32>,
    /// Chunks without memory, except those that are still among the roomy.
    closed: Vec<u32>,
    /// An empty chunk that kept its memory, so that a queue around its edge does not allocate all the time.
    spare: Option<u32>,
    len: usize,
}

impl<V> Slab<V> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), roomy: Vec::new(), closed: Vec::new(), spare: None, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds an entry that is at no home yet.
    pub(super) fn insert(&mut self, due: u64, value: V) -> Key {
        let number = self.chunk_with_room();
        if self.spare == Some(number) {
            self.spare = None;
        }
        let chunk = &mut self.chunks[number as usize];
        let generation = chunk.next_generation();
        let entry = Entry { due, next: NIL, prev: NIL, value, home: NIL, generation };
        let offset = chunk.occupy(entry);
        if chunk.live as usize == CHUNK {
            self.roomy.pop();
        }
        self.len += 1;
        Key { index: number << CHUNK_BITS | offset, generation }
    }

    /// Takes an entry out, which must be at no home any more.
    pub(super) fn remove(&mut self, index: u32) -> V {
        let (number, offset) = split(index);
        let chunk = &mut self.chunks[number];
        if chunk.live as usize == CHUNK {
            self.roomy.push(index >> CHUNK_BITS);
        }
        let value = chunk.vacate(offset);
        self.len -= 1;
        if chunk.live == 0 {
            self.release(index >> CHUNK_BITS);
        }
        value
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        let chunks = (0_u32..).zip(&self.chunks);
        chunks.flat_map(|(number, chunk)| {
            let places = (0_u32..).zip(&chunk.places);
            places.filter_map(move |(offset, place)| match place {
                Place::Taken(entry) => {
                    Some(Key { index: number << CHUNK_BITS | offset, generation: entry.generation })
                }
                Place::Vacant(_) => None,
            })
        })
    }

    #[inline]
    pub(super) fn entry(&self, index: u32) -> &Entry<V> {
        match self.get(index) {
            Some(entry) => entry,
            None => unreachable!("only entries that exist are linked"),
        }
    }

    #[inline]
    pub(super) fn entry_mut(&mut self, index: u32) -> &mut Entry<V> {
        let (number, offset) = split(index);
        match &mut self.chunks[number].places[offset] {
            Place::Taken(entry) => entry,
            Place::Vacant(_) => unreachable!("only entries that exist are linked"),
        }
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Entry<V>> {
        let (number, offset) = split(index);
        match self.chunks.get(number)?.places.get(offset)? {
            Place::Taken(entry) => Some(entry),
            Place::Vacant(_) => None,
        }
    }

    #[inline]
    pub(super) fn find(&mut self, key: Key) -> Option<&mut Entry<V>> {
        let (number, offset) = split(key.index);
        match self.chunks.get_mut(number)?.places.get_mut(offset)? {
            Place::Taken(entry) if entry.has(key) => Some(entry),
            _ => None,
        }
    }

    pub(super) fn key(&self, index: u32) -> Key {
        Key { index, generation: self.entry(index).generation }
    }

    fn chunk_with_room(&mut self) -> u32 {
        while let Some(&last) = self.roomy.last() {
            if self.chunks[last as usize].places.capacity() > 0 {
                return last;
            }
            // What still has memory comes before what has not.
            self.roomy.pop();
            self.closed.push(last);
        }
        let number = self.closed.pop().unwrap_or_else(|| self.add_chunk());
        if number > 0 {
            // The first chunk grows with a small queue; for the others that would be copying for nothing.
            self.chunks[number as usize].places.reserve_exact(CHUNK);
        }
        self.roomy.push(number);
        number
    }

    fn add_chunk(&mut self) -> u32 {
        let number = u32::try_from(self.chunks.len()).unwrap_or(NIL);
        // Indices stay below `NIL`.
        assert!(number < NIL >> CHUNK_BITS, "a queue holds fewer than 2^32 - 256 entries");
        self.chunks.push(Chunk { places: Vec::new(), vacant: NIL, live: 0, stamp: 0 });
        number
    }

    /// Closes a chunk that has become empty, unless it is the only one.
    fn release(&mut self, number: u32) {
        if self.spare.is_none() {
            self.spare = Some(number);
        } else {
            let chunk = &mut self.chunks[number as usize];
            (chunk.places, chunk.vacant) = (Vec::new(), NIL);
        }
    }
}

impl<V> Chunk<V> {
    fn next_generation(&mut self) -> NonZeroU32 {
        self.stamp = self.stamp.wrapping_add(1).max(1);
        NonZeroU32::new(self.stamp).unwrap_or(NonZeroU32::MIN)
    }

    #[allow(clippy::cast_possible_truncation)]
    fn occupy(&mut self, entry: Entry<V>) -> u32 {
        self.live += 1;
        if self.vacant == NIL {
            self.places.push(Place::Taken(entry));
            return self.places.len() as u32 - 1; // at most `CHUNK`
        }
        let offset = self.vacant;
        let place = core::mem::replace(&mut self.places[offset as usize], Place::Taken(entry));
        let Place::Vacant(next) = place else { unreachable!("only vacant places are chained") };
        self.vacant = next;
        offset
    }

    #[allow(clippy::cast_possible_truncation)]
    fn vacate(&mut self, offset: usize) -> V {
        let vacant = Place::Vacant(core::mem::replace(&mut self.vacant, offset as u32));
        self.live -= 1;
        match core::mem::replace(&mut self.places[offset], vacant) {
            Place::Taken(entry) => entry.value,
            Place::Vacant(_) => unreachable!("only entries that exist are removed"),
        }
    }
}

fn split(index: u32) -> (usize, usize) {
    ((index >> CHUNK_BITS) as usize, index as usize % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_costs_24_bytes_beside_its_value() {
        assert_eq!(size_of::<Place<u64>>(), 32);
        assert_eq!(size_of::<Place<[u64; 3]>>(), 48);
    }

    #[test]
    fn memory_is_given_back() {
        let mut slab = Slab::new();
        let keys: alloc::vec::Vec<_> = (0..100_000_u32).map(|n| slab.insert(0, n)).collect();
        keys.iter().for_each(|key| _ = slab.remove(key.index));
        let kept: usize = slab.chunks.iter().map(|chunk| chunk.places.capacity()).sum();
        assert_eq!((kept, slab.len()), (CHUNK, 0));
        let again = slab.insert(0, 7);
        assert!(keys.iter().all(|&key| key != again), "a new key, though its place is used again");
        assert!(keys.iter().all(|&key| slab.find(key).is_none()));
    }

    #[test]
    fn one_chunk_is_filled_before_the_next_is_opened() {
        let mut slab = Slab::new();
        let keys: alloc::vec::Vec<_> = (0..3 * CHUNK).map(|n| slab.insert(0, n)).collect();
        keys.iter().skip(1).for_each(|key| _ = slab.remove(key.index));
        (1..CHUNK).for_each(|n| _ = slab.insert(0, n));
        let kept = slab.chunks.iter().filter(|chunk| chunk.places.capacity() > 0).count();
        assert!(kept <= 2, "{kept} chunks for {} entries", slab.len());
    }

    fn kept(slab: &Slab<usize>) -> usize {
        slab.chunks.iter().map(|chunk| chunk.places.capacity()).sum()
    }

    /// Three full chunks, their keys, and the slab.
    fn three_chunks() -> (Slab<usize>, [alloc::vec::Vec<Key>; 3]) {
        let mut slab = Slab::new();
        let mut chunk = || (0..CHUNK).map(|n| slab.insert(0, n)).collect();
        let keys = [chunk(), chunk(), chunk()];
        (slab, keys)
    }

    fn empty(slab: &mut Slab<usize>, keys: &[Key]) {
        keys.iter().for_each(|key| _ = slab.remove(key.index));
    }

    #[test]
    fn the_first_chunk_grows_with_a_small_queue_and_all_others_are_of_full_size() {
        let mut slab = Slab::new();
        slab.insert(0, 0);
        assert!(kept(&slab) < CHUNK);
        (1..=CHUNK).for_each(|n| _ = slab.insert(0, n));
        assert_eq!(slab.chunks[1].places.capacity(), CHUNK);
    }

    #[test]
    fn the_chunk_in_which_a_place_became_free_last_is_filled_first() {
        let (mut slab, [first, second, _]) = three_chunks();
        slab.remove(first[9].index);
        slab.remove(second[5].index);
        assert_eq!(slab.insert(0, 0).index, second[5].index);
        assert_eq!(slab.insert(0, 0).index, first[9].index);
    }

    /// Around its edge a queue does not allocate all the time, and it keeps no more than is needed for that.
    #[test]
    fn one_empty_chunk_is_kept_whichever_became_empty_first() {
        let (mut slab, [first, second, third]) = three_chunks();
        empty(&mut slab, &third);
        assert_eq!(kept(&slab), 3 * CHUNK);
        // It is in use again, so that another one can be the empty one.
        let back = slab.insert(0, 7);
        assert_eq!(back.index >> CHUNK_BITS, third[0].index >> CHUNK_BITS);
        empty(&mut slab, &second);
        assert_eq!(kept(&slab), 3 * CHUNK);
        // One more place in a chunk that was never empty changes nothing about that.
        slab.remove(first[0].index);
        let again = slab.insert(0, 8);
        assert_eq!(again.index, first[0].index);
        slab.remove(back.index);
        assert_eq!(kept(&slab), 2 * CHUNK);
        slab.remove(again.index);
        empty(&mut slab, &first[1..]);
        assert_eq!((kept(&slab), slab.len()), (CHUNK, 0));
    }
}
