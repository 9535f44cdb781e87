//! Finding secrets in a text in any mix of [`forms`], and every one of them: also where they overlap.
//!
//! All secrets stand in a row, and a set of bits says of each character whether a match that has come so far is at it. From
//! one place of the text to the next there is a step for each form that begins there. So each byte costs the same whatever
//! the text is: a few operations on as many words as the secrets have characters by 64, and for nearly every byte none,
//! because no secret begins there. A text is gone through once; a stretch that holds a secret, three times.

use std::ops::Range;

use super::forms::{self, FORM_MAX_BYTES};

/// The secrets.
#[derive(Clone)]
pub(super) struct Needles {
    /// Each is not empty; folded.
    all: Vec<Vec<u8>>,
    /// Words of a set.
    words: usize,
    /// The places in the row where a secret begins, and ends.
    first: Vec<u64>,
    last: Vec<u64>,
    /// For each byte, the places where it stands in the row: `words` for each.
    of: Vec<u64>,
    /// Whether a secret may begin with this byte of a text.
    begins: [bool; 256],
}

impl Default for Needles {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            words: 0,
            first: Vec::new(),
            last: Vec::new(),
            of: Vec::new(),
            begins: [false; 256],
        }
    }
}

/// The sets at a place of the text and at those that a form may reach from there.
struct Ring {
    words: usize,
    sets: Vec<u64>,
    live: [bool; FORM_MAX_BYTES],
    /// The set from which a step is made.
    from: Vec<u64>,
}

impl Ring {
    fn new(words: usize) -> Self {
        let sets = vec![0; words * FORM_MAX_BYTES];
        Self { words, sets, live: [false; FORM_MAX_BYTES], from: vec![0; words] }
    }

    fn range(&self, at: usize) -> Range<usize> {
        let slot = at % FORM_MAX_BYTES;
        slot * self.words..(slot + 1) * self.words
    }

    /// The set at a place, if it has anything.
    fn get(&self, at: usize) -> Option<&[u64]> {
        if self.live[at % FORM_MAX_BYTES] { self.sets.get(self.range(at)) } else { None }
    }

    /// Makes a step: adds to the set at a place what stands in `from` and in `of`. Says whether that was anything.
    fn step(&mut self, at: usize, of: &[u64]) -> bool {
        let (range, live) = (self.range(at), self.live[at % FORM_MAX_BYTES]);
        let mut any = 0;
        for ((word, from), of) in self.sets[range].iter_mut().zip(&self.from).zip(of) {
            let bits = from & of;
            *word = if live { *word | bits } else { bits };
            any |= bits;
        }
        self.live[at % FORM_MAX_BYTES] = live || any != 0;
        any != 0
    }
}

/// How far the matches went that were followed.
struct Followed {
    /// From here on nothing is known.
    to: usize,
    /// The last place where one of them was complete.
    complete: Option<usize>,
}

impl Needles {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Adds one, unless it is empty or known.
    pub(super) fn add(&mut self, text: &str) {
        let folded: Vec<u8> = text.bytes().map(forms::fold).collect();
        let Some(&first) = folded.first() else { return };
        if self.all.contains(&folded) {
            return;
        }
        forms::begins(first).for_each(|byte| self.begins[usize::from(byte)] = true);
        self.all.push(folded);
        let length: usize = self.all.iter().map(Vec::len).sum();
        self.words = length.div_ceil(64);
        self.first = vec![0; self.words];
        self.last = vec![0; self.words];
        self.of = vec![0; self.words * 256];
        let mut place = 0;
        for needle in &self.all {
            self.first[place / 64] |= 1 << (place % 64);
            for &byte in needle {
                self.of[usize::from(byte) * self.words + place / 64] |= 1 << (place % 64);
                place += 1;
            }
            self.last[(place - 1) / 64] |= 1 << ((place - 1) % 64);
        }
    }

    fn of(&self, byte: u8) -> &[u64] {
        let from = usize::from(byte) * self.words;
        self.of.get(from..from + self.words).unwrap_or_default()
    }

    /// The next place from `from` on where one may begin.
    fn candidate(&self, text: &[u8], from: usize) -> Option<usize> {
        Some(from + text.get(from..)?.iter().position(|&byte| self.begins[usize::from(byte)])?)
    }

    /// Whether one stands in there.
    pub(super) fn find(&self, text: &[u8]) -> bool {
        let (mut ring, mut at) = (Ring::new(self.words), 0);
        while let Some(from) = self.candidate(text, at) {
            let followed = self.follow(&mut ring, text, from..text.len(), |_| true);
            if followed.complete.is_some() {
                return true;
            }
            at = followed.to;
        }
        false
    }

    /// A search through a text from its beginning.
    pub(super) fn search(&self) -> Search<'_> {
        Search { needles: self, ring: Ring::new(self.words), at: 0 }
    }

    /// Follows matches that begin at the first of these places, and at each later one that `begins`, until none is left or
    /// comes to no end by the last. One that begins where all others have ended is not followed.
    fn follow(
        &self,
        ring: &mut Ring,
        text: &[u8],
        places: Range<usize>,
        begins: impl Fn(usize) -> bool,
    ) -> Followed {
        let Range { start: from, end: to } = places;
        ring.live = [false; FORM_MAX_BYTES];
        let (mut at, mut furthest, mut complete) = (from, from, None);
        while at <= furthest {
            #[cfg(test)]
            STEPS.with(|steps| steps.set(steps.get() + 1));
            let ended = self.forward(ring, at);
            if ended.complete {
                complete = Some(at);
            }
            if ended.all && at == furthest && at != from {
                break;
            }
            let Some(rest) = text.get(at..) else { break };
            if at == from || begins(at) {
                ring.from.iter_mut().zip(&self.first).for_each(|(from, first)| *from |= first);
            } else if ended.all {
                at += 1;
                continue;
            }
            forms::at(rest, |byte, length| {
                if at + length <= to && ring.step(at + length, self.of(byte)) {
                    furthest = furthest.max(at + length);
                }
            });
            at += 1;
        }
        Followed { to: at, complete }
    }

    /// Takes the set at a place, and puts what comes after it into `from`.
    fn forward(&self, ring: &mut Ring, at: usize) -> Ended {
        let range = ring.range(at);
        if !std::mem::take(&mut ring.live[at % FORM_MAX_BYTES]) {
            ring.from.fill(0);
            return Ended { complete: false, all: true };
        }
        let (mut carry, mut complete, mut left) = (0, 0, 0);
        for ((next, here), last) in ring.from.iter_mut().zip(&ring.sets[range]).zip(&self.last) {
            complete |= here & last;
            let here = here & !last;
            left |= here;
            *next = here << 1 | carry;
            carry = here >> 63;
        }
        Ended { complete: complete != 0, all: left == 0 }
    }

    /// A bit for each place between: whether one begins there that is complete at `to` or before.
    fn beginnings(&self, ring: &mut Ring, text: &[u8], from: usize, to: usize) -> Vec<u64> {
        ring.live = [false; FORM_MAX_BYTES];
        let mut begins = vec![0; (to - from).div_ceil(64)];
        for at in (from..to).rev() {
            #[cfg(test)]
            STEPS.with(|steps| steps.set(steps.get() + 1));
            ring.live[at % FORM_MAX_BYTES] = false;
            // Read in the whole text: where a form ends may depend on what follows.
            forms::at(text.get(at..).unwrap_or_default(), |byte, length| {
                if at + length <= to {
                    self.back(ring, at + length);
                    ring.step(at, self.of(byte));
                }
            });
            let here = ring.get(at).unwrap_or_default();
            let any = here.iter().zip(&self.first).any(|(here, first)| here & first != 0);
            begins[(at - from) / 64] |= u64::from(any) << ((at - from) % 64);
        }
        begins
    }

    /// Puts what may come before the set at a place into `from`: each one's last character may come before anything.
    fn back(&self, ring: &mut Ring, at: usize) {
        if !ring.live[at % FORM_MAX_BYTES] {
            ring.from.copy_from_slice(&self.last);
            return;
        }
        let range = ring.range(at);
        let mut carry = 0;
        let words = ring.from.iter_mut().zip(&ring.sets[range]).zip(&self.last);
        for ((before, here), last) in words.rev() {
            *before = (here >> 1 | carry) & !last | last;
            carry = here << 63;
        }
    }
}

/// A search under way.
pub(super) struct Search<'n> {
    needles: &'n Needles,
    ring: Ring,
    at: usize,
}

impl Search<'_> {
    /// The next stretches of the text that hold secrets, in order; what overlaps is one. What stands before the end of the
    /// last of them is not looked at again, and may be another text by the next call.
    pub(super) fn next(&mut self, text: &[u8]) -> Option<Vec<Range<usize>>> {
        let (needles, ring) = (self.needles, &mut self.ring);
        loop {
            let from = needles.candidate(text, self.at)?;
            let followed = needles.follow(ring, text, from..text.len(), |_| true);
            self.at = followed.to;
            let Some(end) = followed.complete else { continue };
            // Where they are complete is known; now where they began, and then which belong together.
            let begin = needles.beginnings(ring, text, from, end);
            let begins = |place: usize| {
                let place = place - from;
                begin.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
            };
            let (mut place, mut found) = (from, Vec::new());
            while let Some(start) = (place..end).find(|place| begins(*place)) {
                let followed = needles.follow(ring, text, start..end, begins);
                found.push(start..followed.complete.unwrap_or(end));
                place = followed.to;
            }
            return Some(found);
        }
    }
}

/// What the matches at a place of the text have come to.
struct Ended {
    /// One is complete.
    complete: bool,
    /// None goes on.
    all: bool,
}

#[cfg(test)]
thread_local! {
    /// Places that were looked at, which is what a search costs.
    pub(super) static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
