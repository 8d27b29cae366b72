//! Which draw belongs to a seed and a slot. The contract leaves that open, but the library promises that it stays the
//! same in every version; so the model knows it, too.

use crate::span::Span;

/// A time that is drawn evenly from `begin..end`.
pub(super) fn draw(seed: u64, slot: u64, begin: Span, end: Span) -> Span {
    let (width, share) = (u128::from(end.minus(begin).as_nanos()), u128::from(scatter(seed ^ scatter(slot))));
    begin.plus(Span::from_nanos(u64::try_from((width * share) >> 64).unwrap_or(u64::MAX)))
}

/// What `SplitMix64` makes of a state.
fn scatter(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
