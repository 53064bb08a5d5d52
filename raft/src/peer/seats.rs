//! Bounds the connections to the peer port, so that strangers never keep a member out.
//!
//! Every connection begins as a guest. Guests share a fixed number of seats, and when all are
//! taken the newest evicts the oldest: a member, which introduces itself at once, gets through
//! whatever else is connected. Each member has seats of its own then; there too the newest
//! connection evicts the oldest, since a member that crashed leaves connections behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raftlookupd_storage::registration::MemberId;
use tokio::sync::Notify;

use crate::peer::message::Class;

/// Connections of one member for long messages: replication, a snapshot, its batches.
const BULK: usize = 4;

/// Connections of one member for short messages.
const SMALL: usize = 8;

/// The seats that a connection competes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    /// Whoever is not known to be a member.
    Guests,
    /// One member's connections of one class.
    Member(MemberId, Class),
}

/// The seats of one peer port.
#[derive(Debug)]
pub(crate) struct Seats {
    guests: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// The oldest first.
    rows: BTreeMap<Row, VecDeque<(u64, Arc<Notify>)>>,
}

/// A connection's seat, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    row: Row,
    number: u64,
    evicted: Arc<Notify>,
}

impl Seats {
    /// Seats for this many guests.
    pub(crate) fn new(guests: usize) -> Arc<Self> {
        Arc::new(Seats {
            guests,
            taken: Mutex::default(),
        })
    }

    /// Seats a new connection among the guests.
    pub(crate) fn enter(self: &Arc<Self>) -> Seat {
        let mut taken = self.taken();
        let number = taken.next;
        taken.next += 1;
        let evicted = Arc::new(Notify::new());
        let seat = (number, evicted.clone());
        taken.push(Row::Guests, self.most(Row::Guests), seat);
        Seat {
            seats: self.clone(),
            row: Row::Guests,
            number,
            evicted,
        }
    }

    fn most(&self, row: Row) -> usize {
        match row {
            Row::Guests => self.guests,
            Row::Member(_, Class::Bulk) => BULK,
            Row::Member(_, Class::Small) => SMALL,
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn push(&mut self, row: Row, most: usize, seat: (u64, Arc<Notify>)) {
        let seats = self.rows.entry(row).or_default();
        if seats.len() >= most
            && let Some((_, evicted)) = seats.pop_front()
        {
            evicted.notify_one();
        }
        seats.push_back(seat);
    }

    fn remove(&mut self, row: Row, number: u64) {
        if let Some(seats) = self.rows.get_mut(&row) {
            seats.retain(|(other, _)| *other != number);
            if seats.is_empty() {
                self.rows.remove(&row);
            }
        }
    }
}

impl Seat {
    /// Takes a seat in another row instead.
    pub(crate) fn move_to(&mut self, row: Row) {
        let mut taken = self.seats.taken();
        taken.remove(self.row, self.number);
        let seat = (self.number, self.evicted.clone());
        taken.push(row, self.seats.most(row), seat);
        self.row = row;
    }

    /// Resolves when a newer connection needs the seat.
    pub(crate) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().remove(self.row, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn is_evicted(seat: &Seat) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(seat.evicted()).poll(&mut context).is_ready()
    }

    #[test]
    fn the_newest_guest_evicts_the_oldest() {
        let seats = Seats::new(3);
        let all: Vec<Seat> = (0..5).map(|_| seats.enter()).collect();
        let evicted: Vec<bool> = all.iter().map(is_evicted).collect();
        assert_eq!(evicted, [true, true, false, false, false]);
        drop(all);
        assert!(seats.taken().rows.is_empty());
    }

    #[test]
    fn guests_never_evict_a_member() {
        let seats = Seats::new(3);
        let mut member = seats.enter();
        member.move_to(Row::Member(2, Class::Bulk));
        let strangers: Vec<Seat> = (0..100).map(|_| seats.enter()).collect();
        assert!(!is_evicted(&member));
        assert!(is_evicted(&strangers[0]));
        let mut late = seats.enter();
        late.move_to(Row::Member(3, Class::Small));
        assert!(!is_evicted(&late) && !is_evicted(&member));
    }

    #[test]
    fn a_member_has_so_many_seats_of_each_class() {
        let seats = Seats::new(3);
        let sit = |class| {
            let mut seat = seats.enter();
            seat.move_to(Row::Member(2, class));
            seat
        };
        let small: Vec<Seat> = (0..SMALL).map(|_| sit(Class::Small)).collect();
        let bulk: Vec<Seat> = (0..=BULK).map(|_| sit(Class::Bulk)).collect();
        assert!(!small.iter().any(is_evicted));
        assert!(is_evicted(&bulk[0]) && !is_evicted(&bulk[1]));
    }
}
