//! Looks up what an index refers to; finding nothing is a violated invariant.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::error::{Error, Result};

/// The value of a key that an index has.
///
/// # Errors
/// [`Error::Invariant`] if there is none.
pub(super) fn present<'a, K, Q, V>(map: &'a BTreeMap<K, V>, key: &Q, what: &str) -> Result<&'a V>
where
    K: Borrow<Q> + Ord,
    Q: Ord + Debug + ?Sized,
{
    map.get(key).ok_or_else(|| missing(what, key))
}

/// As [`present`], mutable.
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
    Error::invariant(format!("{what} {key:?} is indexed but missing"))
}
