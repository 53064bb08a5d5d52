//! Follows an index to what it names; finding nothing there is a broken rule, not an answer.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::error::{Error, Result};

/// What is stored under a key that an index has.
///
/// # Errors
/// [`Error::Invariant`] if there is nothing.
pub(super) fn present<'a, K, Q, V>(map: &'a BTreeMap<K, V>, key: &Q, what: &str) -> Result<&'a V>
where
    K: Borrow<Q> + Ord,
    Q: Ord + Debug + ?Sized,
{
    map.get(key).ok_or_else(|| missing(what, key))
}

/// As [`present`], to be changed.
///
/// # Errors
/// As [`present`].
pub(super) fn present_mut<'a, K, Q, V>(
    map: &'a mut BTreeMap<K, V>,
    key: &Q,
    what: &str,
) -> Result<&'a mut V>
where
    K: Borrow<Q> + Ord,
    Q: Ord + Debug + ?Sized,
{
    map.get_mut(key).ok_or_else(|| missing(what, key))
}

fn missing(what: &str, key: &(impl Debug + ?Sized)) -> Error {
    Error::invariant(format!("{what} {key:?} is indexed but not there"))
}
