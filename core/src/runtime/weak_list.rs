//! A list of what others hold: entries that were dropped go as the list grows, so it stays as long as what is alive.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
};

/// Below this length a list is not searched for dead entries.
const PRUNE_LENGTH_MIN: usize = 8;

/// Whoever waits for, or watches, one thing.
pub struct WeakList<T> {
    list: RefCell<Vec<Weak<T>>>,
    prune_at: Cell<usize>,
}

impl<T> Default for WeakList<T> {
    fn default() -> Self {
        WeakList { list: RefCell::default(), prune_at: Cell::new(PRUNE_LENGTH_MIN) }
    }
}

impl<T> WeakList<T> {
    /// Adds an entry; it goes when its last owner drops it.
    pub fn add(&self, entry: &Rc<T>) {
        let mut list = self.list.borrow_mut();
        if list.len() >= self.prune_at.get() {
            list.retain(|entry| entry.strong_count() > 0);
            self.prune_at.set((list.len() * 2).max(PRUNE_LENGTH_MIN));
        }
        list.push(Rc::downgrade(entry));
    }

    /// Shows every living entry. `visit` must not add to this list, which waking a task does not.
    pub fn for_each(&self, visit: impl FnMut(Rc<T>)) {
        self.list.borrow().iter().filter_map(Weak::upgrade).for_each(visit);
    }

    /// Shows every living entry and forgets all.
    pub fn drain(&self, visit: impl FnMut(Rc<T>)) {
        if !self.list.borrow().is_empty() {
            self.list.take().iter().filter_map(Weak::upgrade).for_each(visit);
        }
    }

    /// How many entries the list has, dead ones included.
    pub fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// Whether nobody is in the list.
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_does_not_pile_up_and_what_lives_stays() {
        let list = WeakList::default();
        let alive: Vec<Rc<u32>> = (0..3).map(Rc::new).collect();
        alive.iter().for_each(|entry| list.add(entry));
        for _ in 0..1000 {
            list.add(&Rc::new(9));
        }
        assert!(list.len() <= 2 * PRUNE_LENGTH_MIN, "{}", list.len());
        let mut seen = Vec::new();
        list.for_each(|entry| seen.push(*entry));
        assert_eq!(seen, [0, 1, 2]);
        seen.clear();
        list.drain(|entry| seen.push(*entry));
        assert_eq!(seen, [0, 1, 2]);
        assert!(list.is_empty());
    }
}
