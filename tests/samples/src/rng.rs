//! Random numbers, and with them names, ids and batches; where a broker is known, mostly such as it has.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

/// What a broker has, so that requests meet it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Names of topics, groups, members, transactional ids and settings: whatever is told by text.
    pub words: Vec<StrBytes>,
    /// Ids of topics.
    pub topic_ids: Vec<[u8; 16]>,
    /// Whole record batches.
    pub batches: Vec<Bytes>,
    /// Producers with their epochs.
    pub producers: Vec<(i64, i16)>,
    /// Fetch sessions with the epoch of their next request.
    pub sessions: Vec<(i32, i32)>,
}

/// A small deterministic source of random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    known: Option<Known>,
}

impl Rng {
    /// Everything that follows is told by `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed, known: None }
    }

    /// One that mostly says what a broker knows.
    pub fn knowing(seed: u64, known: Known) -> Rng {
        Rng { state: seed, known: Some(known) }
    }

    /// What it knows, to be changed as the broker changes.
    pub fn known(&mut self) -> &mut Known {
        self.known.get_or_insert_default()
    }

    /// The next 64 random bits.
    #[allow(clippy::should_implement_trait, reason = "numbers without end are no iteration")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A fair coin.
    pub fn flip(&mut self) -> bool {
        self.below(2) == 0
    }

    /// A 32-bit number, often a small one.
    pub fn i32(&mut self) -> i32 {
        match self.small() {
            Some(small) => small,
            None if self.flip() => self.below(100) as i32,
            None => self.next() as i32,
        }
    }

    /// A 64-bit number.
    pub fn i64(&mut self) -> i64 {
        self.small().map_or_else(|| self.next() as i64, i64::from)
    }

    /// A 16-bit number.
    pub fn i16(&mut self) -> i16 {
        self.small().map_or_else(|| self.next() as i16, |small| small as i16)
    }

    /// An 8-bit number.
    pub fn i8(&mut self) -> i8 {
        self.small().map_or_else(|| self.next() as i8, |small| small as i8)
    }

    /// A number that means something to a broker: an index or an offset that is there, one beyond, or a special one.
    fn small(&mut self) -> Option<i32> {
        self.known.as_ref()?;
        match self.below(8) {
            0..=3 => Some(self.below(4) as i32),
            4 => Some(self.below(100) as i32),
            5 | 6 => Some(-(self.below(6) as i32)),
            _ => None,
        }
    }

    /// A producer and its epoch.
    pub fn producer(&mut self) -> (i64, i16) {
        self.pick(|known| &known.producers).unwrap_or_else(|| (self.i64(), self.i16()))
    }

    /// A short text, sometimes empty, sometimes not ASCII.
    pub fn text(&mut self) -> StrBytes {
        const ALPHABET: [char; 8] = ['a', 'b', 'z', '-', '.', '0', '\u{e9}', '\u{4e2d}'];
        if let Some(word) = self.pick(|known| &known.words) {
            return word;
        }
        let length = self.below(12);
        let text: String = (0..length).map(|_| ALPHABET[self.below(ALPHABET.len())]).collect();
        StrBytes::from_string(text)
    }

    /// A text or null.
    pub fn maybe_text(&mut self) -> Option<StrBytes> {
        self.flip().then(|| self.text())
    }

    /// Some random bytes.
    pub fn bytes(&mut self) -> Bytes {
        let length = self.below(200);
        (0..length).map(|_| self.next() as u8).collect::<Vec<u8>>().into()
    }

    /// What is produced to a partition: random bytes, or batches.
    pub fn records(&mut self) -> Bytes {
        let Some(batch) = self.pick(|known| &known.batches) else { return self.bytes() };
        let mut records = BytesMut::from(&batch[..]);
        while self.below(6) == 0
            && let Some(batch) = self.pick(|known| &known.batches)
        {
            records.extend_from_slice(&batch);
        }
        records.freeze()
    }

    /// A random id.
    pub fn uuid(&mut self) -> [u8; 16] {
        let random = |rng: &mut Rng| (u128::from(rng.next()) << 64 | u128::from(rng.next())).to_be_bytes();
        self.pick(|known| &known.topic_ids).unwrap_or_else(|| random(self))
    }

    /// A fetch session and its epoch.
    pub fn session(&mut self) -> (i32, i32) {
        self.pick(|known| &known.sessions).unwrap_or_else(|| (self.i32(), self.i32()))
    }

    /// Up to three items; to a broker that is known, some are said twice.
    pub fn few<T: Clone>(&mut self, mut item: impl FnMut(&mut Rng) -> T) -> Vec<T> {
        let count = self.below(4);
        let mut items: Vec<T> = (0..count).map(|_| item(self)).collect();
        if self.known.is_some() && self.below(6) == 0 {
            items.extend(items.first().cloned());
        }
        items
    }

    /// Mostly one of what is known, if anything is.
    fn pick<T: Clone>(&mut self, of: impl Fn(&Known) -> &Vec<T>) -> Option<T> {
        let count = of(self.known.as_ref()?).len();
        if count == 0 || self.below(8) == 0 {
            return None;
        }
        let at = self.below(count);
        self.known.as_ref().map(|known| of(known)[at].clone())
    }
}
