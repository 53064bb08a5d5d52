//! Assigns numbers, smallest first, so that equal registries assign equal numbers.

use std::collections::BTreeSet;

/// The free numbers: all from `next` on, and some below it.
#[derive(Debug, Default)]
pub(super) struct NumberPool {
    free: BTreeSet<u32>,
    next: u32,
}

impl NumberPool {
    /// A pool in which these numbers, given in ascending order, are taken.
    pub(super) fn with_taken(taken: impl Iterator<Item = u32>) -> Self {
        let mut pool = NumberPool::default();
        for number in taken {
            debug_assert!(number >= pool.next, "taken numbers are out of order");
            pool.free.extend(pool.next..number);
            pool.next = number.saturating_add(1);
        }
        pool
    }

    pub(super) fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            let number = self.next;
            self.next = self.next.saturating_add(1);
            number
        })
    }

    pub(super) fn give_back(&mut self, number: u32) {
        debug_assert!(
            number < self.next && !self.free.contains(&number),
            "number {number} is returned but was not taken"
        );
        self.free.insert(number);
        // The pool depends only on which numbers are taken, not on the order of events.
        while self.next > 0 && self.free.last() == Some(&(self.next - 1)) {
            self.free.pop_last();
            self.next -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_free_number_comes_first() {
        let mut pool = NumberPool::default();
        assert_eq!([pool.take(), pool.take(), pool.take()], [0, 1, 2]);
        pool.give_back(0);
        pool.give_back(2);
        let loaded = NumberPool::with_taken([1].into_iter());
        assert_eq!(format!("{pool:?}"), format!("{loaded:?}"));
        assert_eq!([pool.take(), pool.take(), pool.take()], [0, 2, 3]);
    }
}
