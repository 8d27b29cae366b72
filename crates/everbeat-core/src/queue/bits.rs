//! Which slots of a ring have entries.

use super::wheel::RING;

/// A set of slots.
#[derive(Clone, Debug)]
pub(super) struct Bits {
    words: [u64; RING / 64],
    /// Which words are not zero.
    summary: u64,
}

impl Bits {
    pub(super) const fn new() -> Self {
        Self { words: [0; RING / 64], summary: 0 }
    }

    #[inline]
    pub(super) fn contains(&self, bit: usize) -> bool {
        self.words[bit / 64] >> (bit % 64) & 1 == 1
    }

    #[inline]
    pub(super) fn insert(&mut self, bit: usize) {
        self.words[bit / 64] |= 1 << (bit % 64);
        self.summary |= 1 << (bit / 64);
    }

    #[inline]
    pub(super) fn remove(&mut self, bit: usize) {
        self.words[bit / 64] &= !(1 << (bit % 64));
        if self.words[bit / 64] == 0 {
            self.summary &= !(1 << (bit / 64));
        }
    }

    /// The first bit at `from` or after it, around the ring.
    pub(super) fn first_from(&self, from: usize) -> Option<usize> {
        let (word, bit) = (from / 64, from % 64);
        let rest = self.words[word] & (u64::MAX << bit);
        if rest != 0 {
            return Some(word * 64 + rest.trailing_zeros() as usize);
        }
        let later = self.summary & ((u64::MAX - 1) << word);
        let word = if later != 0 { later } else { self.summary }.trailing_zeros() as usize;
        self.words.get(word).map(|bits| word * 64 + bits.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From each place the first bit at it or after it, around the ring; a word's own lower bits come last.
    #[test]
    fn the_first_bit_from_any_place_is_that_of_a_walk() {
        for set in [&[][..], &[0], &[3, 200], &[63, 64, 65], &[RING - 1], &[5, 70, RING - 64, RING - 1]] {
            let mut bits = Bits::new();
            set.iter().for_each(|&bit| bits.insert(bit));
            for from in 0..RING {
                let walk = (from..RING).chain(0..from).find(|bit| set.contains(bit));
                assert_eq!(bits.first_from(from), walk, "from {from} in {set:?}");
                assert_eq!(bits.contains(from), set.contains(&from), "{from} in {set:?}");
            }
            set.iter().for_each(|&bit| bits.remove(bit));
            assert_eq!((bits.first_from(0), bits.summary), (None, 0), "{set:?}");
        }
    }
}
