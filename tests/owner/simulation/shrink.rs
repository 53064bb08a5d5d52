//! Shortens a failing list of actions, and calms the weather, as long as it fails in the same way.

use super::actions::{Timed, Weather};
use super::failure_of;

pub fn shrink(mut weather: Weather, mut actions: Vec<Timed>, kind: &str) -> (Weather, Vec<Timed>) {
    let fails = |weather: Weather, actions: &[Timed]| {
        failure_of(weather, actions).is_some_and(|failure| failure.kind == kind)
    };
    for calmer in [
        Weather {
            losses: false,
            slow_links: false,
            ..weather
        },
        Weather {
            losses: false,
            ..weather
        },
        Weather {
            slow_links: false,
            ..weather
        },
    ] {
        if fails(calmer, &actions) {
            weather = calmer;
            break;
        }
    }
    let mut pieces = 2;
    while actions.len() >= 2 {
        let size = actions.len().div_ceil(pieces);
        let mut shorter = None;
        for from in (0..actions.len()).step_by(size) {
            let mut rest = actions.clone();
            rest.drain(from..(from + size).min(rest.len()));
            if fails(weather, &rest) {
                shorter = Some(rest);
                break;
            }
        }
        match shorter {
            Some(rest) => {
                actions = rest;
                pieces = pieces.saturating_sub(1).max(2);
            }
            None if size == 1 => break,
            None => pieces = (pieces * 2).min(actions.len()),
        }
    }
    if actions.len() == 1 && fails(weather, &[]) {
        actions.clear();
    }
    (weather, actions)
}
