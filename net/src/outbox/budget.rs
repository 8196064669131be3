//! The memory that all connections of one core share for what is read for them and not sent yet.
//!
//! It lives on one core. Nobody waits for it: over the budget each connection still has one message at a time, and what
//! is read for it is small, so that slow peers slow the others down and stop nobody.
use std::cell::Cell;
use std::rc::Rc;

/// What may always be read for one message, in bytes: enough for small records to flow over a full budget.
pub const SHARE_BYTES_MIN: usize = 64 << 10;

/// One message takes at most this part of what is left, so that many begun at once share it.
const SHARE_DIVISOR: usize = 4;

/// Bytes in use, and how many may be.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    used_bytes: Cell<usize>,
}

impl Budget {
    /// A budget of so many bytes, none in use.
    pub fn new(bytes_max: usize) -> Rc<Budget> {
        Rc::new(Budget { bytes_max, used_bytes: Cell::new(0) })
    }

    /// No limit.
    pub fn boundless() -> Rc<Budget> {
        Budget::new(usize::MAX)
    }

    /// Bytes in use now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.get()
    }

    /// Takes what one message may hold of the `wanted_bytes` it could, until the claim is dropped.
    pub fn claim(self: &Rc<Budget>, wanted_bytes: usize) -> Claim {
        let left_bytes = self.bytes_max.saturating_sub(self.used_bytes.get());
        let bytes = wanted_bytes.min(SHARE_BYTES_MIN.max(left_bytes / SHARE_DIVISOR));
        let mut claim = Claim::none(self.clone());
        claim.add(bytes);
        claim
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.used_bytes.get().saturating_add(bytes) <= self.bytes_max
    }
}

/// Bytes of a budget in use by somebody, given back when dropped.
#[derive(Debug)]
pub struct Claim {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Claim {
    pub(super) fn none(budget: Rc<Budget>) -> Claim {
        Claim { budget, bytes: 0 }
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.used_bytes.set(self.budget.used_bytes.get() + bytes);
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.budget.used_bytes.set(self.budget.used_bytes.get() - bytes);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_shrink_as_the_budget_fills_and_come_back() {
        let budget = Budget::new(1 << 20);
        let small = budget.claim(1000);
        assert_eq!(small.bytes(), 1000);
        let claims: Vec<Claim> = (0..100).map(|_| budget.claim(1 << 30)).collect();
        assert!(claims[0].bytes() > 200 << 10 && claims[0].bytes() < 256 << 10);
        assert!(claims.is_sorted_by(|a, b| a.bytes() >= b.bytes()));
        assert_eq!(claims[99].bytes(), SHARE_BYTES_MIN);
        assert!(!budget.has_room(1));
        drop((small, claims));
        assert_eq!(budget.used_bytes(), 0);
        assert_eq!(Budget::boundless().claim(1 << 30).bytes(), 1 << 30);
    }
}
