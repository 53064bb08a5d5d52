//! Who claims one topic or channel.

use serde::{Deserialize, Serialize};

use crate::registration::MemberId;
use crate::rows::ProducerNumber;

/// A sorted list: most topics have few claims, and a list of a hundred thousand
/// channels should cost little more than the claims themselves.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<(ProducerNumber, MemberId)>")]
pub(super) struct ClaimSet(Vec<(ProducerNumber, MemberId)>);

impl TryFrom<Vec<(ProducerNumber, MemberId)>> for ClaimSet {
    type Error = &'static str;

    fn try_from(mut claims: Vec<(ProducerNumber, MemberId)>) -> Result<Self, Self::Error> {
        claims.shrink_to_fit();
        match claims.is_sorted_by(|a, b| a < b) {
            true => Ok(ClaimSet(claims)),
            false => Err("claims are not in order"),
        }
    }
}

impl ClaimSet {
    /// Whether the claim is new.
    pub(super) fn insert(&mut self, number: ProducerNumber, member: MemberId) -> bool {
        match self.0.binary_search(&(number, member)) {
            Ok(_) => false,
            Err(position) => {
                self.0.insert(position, (number, member));
                true
            }
        }
    }

    /// Whether the claim was there.
    pub(super) fn remove(&mut self, number: ProducerNumber, member: MemberId) -> bool {
        match self.0.binary_search(&(number, member)) {
            Ok(position) => {
                self.0.remove(position);
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn contains(&self, number: ProducerNumber, member: MemberId) -> bool {
        self.0.binary_search(&(number, member)).is_ok()
    }

    /// Whether the producer claims it through any member.
    pub(super) fn has_producer(&self, number: ProducerNumber) -> bool {
        !self.members_of(number).is_empty()
    }

    /// The claims of one producer.
    pub(super) fn members_of(&self, number: ProducerNumber) -> &[(ProducerNumber, MemberId)] {
        let start = self.0.partition_point(|claim| claim.0 < number);
        let length = self.0[start..].partition_point(|claim| claim.0 == number);
        &self.0[start..start + length]
    }

    /// Each producer once, with its claims.
    pub(super) fn by_producer(&self) -> impl Iterator<Item = &[(ProducerNumber, MemberId)]> {
        self.0.chunk_by(|a, b| a.0 == b.0)
    }

    /// Each producer once.
    pub(super) fn producers(&self) -> impl Iterator<Item = ProducerNumber> {
        self.by_producer()
            .filter_map(|claims| claims.first().map(|claim| claim.0))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ProducerNumber, MemberId)> {
        self.0.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
