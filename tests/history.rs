//! The checker of the faults' histories, on histories that are right and histories that are not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::time::Duration;

use support::history::{At, History, Item, Read, Write};
use support::listing::Listing;

fn ms(at: u64) -> At {
    Duration::from_millis(at)
}

fn write(listed: bool, began: u64, acknowledged: Option<u64>) -> Write {
    Write {
        listed,
        began: ms(began),
        acknowledged: acknowledged.map(ms),
    }
}

fn read(listed: bool, began: u64, ended: u64) -> Read {
    Read {
        listed,
        began: ms(began),
        ended: ms(ended),
        member: 0,
    }
}

#[track_caller]
fn check(writes: &[Write], reads: &[Read], violations: usize) {
    let item = Item {
        writes: writes.to_vec(),
        reads: reads.to_vec(),
    };
    let found = item.violations();
    assert_eq!(found.len(), violations, "{found:#?}");
}

#[test]
fn an_acknowledged_registration_is_seen_by_every_later_read() {
    let writes = [write(true, 10, Some(20))];
    check(&writes, &[read(false, 0, 5), read(true, 21, 22)], 0);
    check(&writes, &[read(false, 21, 22)], 1);
    check(&writes, &[read(true, 0, 5)], 1);
}

#[test]
fn a_read_during_a_write_may_show_either() {
    let writes = [write(true, 10, Some(20)), write(false, 30, Some(40))];
    for listed in [true, false] {
        check(&writes, &[read(listed, 12, 15)], 0);
        check(&writes, &[read(listed, 12, 35)], 0);
    }
    check(&writes, &[read(true, 41, 42)], 1);
}

#[test]
fn what_was_seen_is_not_unseen() {
    let writes = [write(true, 10, Some(50))];
    check(&writes, &[read(true, 12, 15), read(true, 20, 22)], 0);
    check(&writes, &[read(true, 12, 15), read(false, 20, 22)], 1);
    check(&writes, &[read(true, 12, 25), read(false, 20, 22)], 0);
}

#[test]
fn an_unknown_write_may_show_until_the_next_is_acknowledged() {
    let writes = [write(true, 10, None), write(false, 50, Some(60))];
    for listed in [true, false] {
        check(&writes, &[read(listed, 30, 31)], 0);
    }
    check(&writes, &[read(true, 61, 62)], 1);
}

#[test]
fn what_an_unknown_write_has_shown_stays_shown() {
    let writes = [write(true, 10, Some(20)), write(false, 30, None)];
    check(&writes, &[read(true, 40, 41), read(false, 42, 43)], 0);
    check(&writes, &[read(false, 40, 41), read(true, 42, 43)], 1);
    // Nor does it show before it was asked for.
    check(&writes, &[read(false, 25, 29)], 1);
}

#[test]
fn a_broken_connection_and_the_next_session() {
    let writes = [
        write(true, 10, Some(20)),
        write(false, 30, None),
        write(true, 40, Some(50)),
    ];
    for listed in [true, false] {
        check(&writes, &[read(listed, 35, 36)], 0);
    }
    // The end of the old session must not take away what the new one was granted.
    check(&writes, &[read(false, 51, 52)], 1);
}

#[test]
fn what_was_refused_must_not_be_seen() {
    check(&[], &[read(false, 10, 11)], 0);
    check(&[], &[read(true, 10, 11)], 1);
}

#[test]
fn every_item_is_judged_by_itself() {
    let mut history = History::default();
    for (name, listed) in [("orders", true), ("mails", false)] {
        let item = history.0.entry(name.into()).or_default();
        item.writes.push(write(true, 10, Some(20)));
        item.reads.push(read(listed, 30, 31));
    }
    let found = history.violations();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("mails: "), "{found:#?}");
}

#[test]
fn a_long_history_is_judged_quickly() {
    let mut item = Item::default();
    for number in 0..50_000 {
        let at = number * 10;
        item.writes.push(write(number % 2 == 0, at, Some(at + 5)));
        item.reads.push(read(number % 2 == 0, at + 6, at + 7));
    }
    assert!(item.violations().is_empty());
    item.reads[20_000].listed ^= true;
    assert_eq!(item.violations().len(), 1);
}

/// How a history reads: what is listed, and `?` where that is unknown.
fn told(writes: &[Write]) -> String {
    let one = |write: &Write| match (write.listed, write.acknowledged) {
        (true, Some(_)) => "yes ",
        (false, Some(_)) => "no ",
        (true, None) => "yes? ",
        (false, None) => "no? ",
    };
    writes.iter().map(one).collect::<String>().trim_end().into()
}

#[test]
fn an_nsqd_is_listed_while_any_of_its_sessions_says_so() {
    let mut listing = Listing::new(2);
    let at = Some(ms(2));
    assert_eq!(told(&listing.register(0, ms(1), at)), "yes");
    assert_eq!(told(&listing.register(1, ms(1), at)), "yes");
    assert_eq!(told(&listing.unregister(0, ms(1), at)), "");
    assert!(listing.is_held());
    assert_eq!(told(&listing.unregister(1, ms(1), at)), "no");
    assert!(!listing.is_held());
}

#[test]
fn what_one_session_holds_is_not_put_in_doubt_by_another() {
    let mut listing = Listing::new(2);
    assert_eq!(told(&listing.register(0, ms(1), Some(ms(2)))), "yes");
    assert_eq!(told(&listing.register(1, ms(3), None)), "");
    assert!(listing.is_in_doubt());
    assert_eq!(told(&listing.unregister(1, ms(4), None)), "");
    assert_eq!(told(&listing.lose(1, ms(5))), "");
    assert!(!listing.is_in_doubt());
    assert_eq!(told(&listing.lose(0, ms(6))), "no? yes? no?");
    assert_eq!(told(&listing.lose(0, ms(7))), "");
}

#[test]
fn an_unknown_claim_may_show_after_another_session_gave_the_topic_up() {
    let mut listing = Listing::new(2);
    assert_eq!(told(&listing.register(0, ms(1), Some(ms(2)))), "yes");
    assert_eq!(told(&listing.register(1, ms(3), None)), "");
    let writes = listing.unregister(0, ms(4), Some(ms(5)));
    assert_eq!(told(&writes), "no no? yes? no?");
}
