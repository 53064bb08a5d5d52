//! Stores a set of names: small while there are few, and removable as a whole in constant time.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Larger sets are kept as a tree with the sum of their rows' hashes.
const FEW: usize = 24;

/// Names, in order.
#[derive(Debug, Clone)]
pub(super) enum Names {
    Few(Vec<Arc<str>>),
    Many(Box<Many>),
}

/// `sum` is the sum of the hashes of the names' rows, so that a whole set is subtracted from the
/// state hash without visiting each name.
#[derive(Debug, Clone)]
pub(super) struct Many {
    set: BTreeSet<Arc<str>>,
    sum: u128,
}

impl Default for Names {
    fn default() -> Self {
        Names::Few(Vec::new())
    }
}

impl Names {
    pub(super) fn len(&self) -> usize {
        match self {
            Names::Few(names) => names.len(),
            Names::Many(many) => many.set.len(),
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Names::Few(names) => names.binary_search_by(|known| (**known).cmp(name)).is_ok(),
            Names::Many(many) => many.set.contains(name),
        }
    }

    /// Adds a name that is not in the set. `hash` gives the hash of a name's row.
    pub(super) fn insert(&mut self, name: Arc<str>, mut hash: impl FnMut(&str) -> u128) {
        match self {
            Names::Few(names) if names.len() < FEW => {
                let position = names.binary_search(&name);
                debug_assert!(position.is_err(), "{name} is there already");
                if let Err(position) = position {
                    names.insert(position, name);
                }
                debug_assert!(names.is_sorted(), "names are out of order");
            }
            Names::Few(names) => {
                let mut many = Many {
                    set: std::mem::take(names).into_iter().collect(),
                    sum: 0,
                };
                many.set.insert(name);
                many.sum = sum(many.set.iter(), hash);
                *self = Names::Many(Box::new(many));
            }
            Names::Many(many) => {
                many.sum = many.sum.wrapping_add(hash(&name));
                let new = many.set.insert(name);
                debug_assert!(new, "a name is there already");
            }
        }
    }

    /// Removes a name. Returns whether it was in the set.
    pub(super) fn remove(&mut self, name: &str, hash: impl FnOnce(&str) -> u128) -> bool {
        match self {
            Names::Few(names) => {
                let position = names.binary_search_by(|known| (**known).cmp(name));
                position.map(|position| names.remove(position)).is_ok()
            }
            Names::Many(many) => {
                let there = many.set.remove(name);
                if there {
                    many.sum = many.sum.wrapping_sub(hash(name));
                }
                there
            }
        }
    }

    /// The first name.
    pub(super) fn first(&self) -> Option<&Arc<str>> {
        match self {
            Names::Few(names) => names.first(),
            Names::Many(many) => many.set.first(),
        }
    }

    /// The sum of the hashes of all names' rows.
    pub(super) fn sum(&self, hash: impl FnMut(&str) -> u128) -> u128 {
        match self {
            Names::Few(names) => sum(names.iter(), hash),
            Names::Many(many) => many.sum,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        let (few, many) = match self {
            Names::Few(names) => (Some(names.iter()), None),
            Names::Many(many) => (None, Some(many.set.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// The names after this one, or all.
    pub(super) fn after(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<str>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = name.map_or(Unbounded, Excluded);
        let (few, many) = match self {
            Names::Few(names) => {
                let start = name.map_or(0, |name| names.partition_point(|known| **known <= *name));
                (Some(names[start..].iter()), None)
            }
            Names::Many(many) => (None, Some(many.set.range::<str, _>((from, Unbounded)))),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// Whether freeing the set takes long.
    pub(super) fn is_large(&self) -> bool {
        matches!(self, Names::Many(_))
    }
}

fn sum<'a>(names: impl Iterator<Item = &'a Arc<str>>, mut hash: impl FnMut(&str) -> u128) -> u128 {
    names.fold(0, |sum: u128, name| sum.wrapping_add(hash(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any function of the name would do.
    fn hash(name: &str) -> u128 {
        crate::registry::rows::row_hash(name.as_bytes(), &[])
    }

    #[test]
    fn few_and_many_are_the_same_set() {
        let mut names = Names::default();
        let name = |number: usize| format!("n{:03}", number * 7 % 100);
        for number in 0..100 {
            assert!(!names.contains(&name(number)));
            names.insert(name(number).into(), hash);
            assert!(names.contains(&name(number)));
            let one_by_one = sum(names.iter(), hash);
            assert_eq!(names.sum(hash), one_by_one);
            assert!(names.iter().is_sorted());
            assert_eq!(names.len(), number + 1);
        }
        let behind: Vec<&str> = names.after(Some("n097")).map(|name| &**name).collect();
        assert_eq!(behind, ["n098", "n099"]);
        assert_eq!(names.after(None).count(), 100);
        for number in 0..100 {
            assert!(names.remove(&name(number), hash));
            assert!(!names.remove(&name(number), hash));
            assert_eq!(names.sum(hash), sum(names.iter(), hash));
        }
        assert_eq!(names.len(), 0);
    }
}
