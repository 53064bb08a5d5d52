//! Decides whether a step of the membership may be taken. PURE.
//!
//! What counts is who answers, not who is listed: without the third of three voters, which is dead,
//! a cluster is as safe as with it; without the third that is alive it can lose nobody any more.

use raftlookupd_storage::registration::MemberId;

use crate::cluster::view::majority;

/// A member, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The Raft node id.
    pub(crate) id: MemberId,
    /// The operator's name.
    pub(crate) name: String,
    /// Whether it votes.
    pub(crate) voter: bool,
    /// Whether it answered just now, as the instance that the membership has.
    pub(crate) answers: bool,
}

/// A change of the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A learner becomes a voter, in place of this member if there is one.
    Promote {
        learner: MemberId,
        replaces: Option<MemberId>,
    },
    /// A voter or a learner goes.
    Remove(MemberId),
}

/// Why a step is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Objection {
    /// It is not in the membership.
    #[error("member {0} does not belong to this cluster")]
    Unknown(MemberId),
    /// Nobody would be left.
    #[error("{0} is the only voter: to end the cluster, stop it")]
    Last(String),
    /// It never joined, or is gone; not even force makes it a voter.
    #[error("{0} does not answer, and only a member that answers becomes a voter: start it first")]
    Silent(String),
    /// The voters that are left and answer would not be a majority.
    #[error(
        "without {leaves}, {answering} of {voters} voters would answer, and {needed} are needed; \
         these do not: {silent}. Bring them back or remove them first, or force this step"
    )]
    LosesQuorum {
        leaves: String,
        answering: usize,
        voters: usize,
        needed: usize,
        silent: String,
    },
    /// The next failure would cost the quorum, which it does not now.
    #[error(
        "without {leaves}, the cluster has {voters} voters of which {answering} answer, and cannot \
         lose another one; with {leaves} it can. Add a member first, or force this step"
    )]
    LosesTolerance {
        leaves: String,
        answering: usize,
        voters: usize,
    },
}

/// The voters of a cluster: all of them, and those that answer.
#[derive(Clone, Copy)]
struct Voters {
    all: usize,
    answering: usize,
}

impl Voters {
    fn among<'a>(members: impl Iterator<Item = &'a Seen>) -> Voters {
        let mut voters = Voters {
            all: 0,
            answering: 0,
        };
        for member in members {
            voters.all += 1;
            voters.answering += usize::from(member.answers);
        }
        voters
    }

    fn needed(self) -> usize {
        majority(self.all)
    }

    /// How many may fail; `None` if too many have.
    fn tolerance(self) -> Option<usize> {
        self.answering.checked_sub(self.needed())
    }
}

/// Whether this step may be taken by a cluster of these members.
///
/// # Errors
/// Why not, and what would help.
pub(crate) fn check(members: &[Seen], step: Step, force: bool) -> Result<(), Objection> {
    let find = |id| {
        let found = members.iter().find(|member| member.id == id);
        found.ok_or(Objection::Unknown(id))
    };
    let (comes, goes) = match step {
        Step::Promote { learner, replaces } => {
            (Some(find(learner)?), replaces.map(find).transpose()?)
        }
        Step::Remove(id) => (None, Some(find(id)?)),
    };
    if let Some(silent) = comes.filter(|comes| !comes.answers) {
        return Err(Objection::Silent(silent.name.clone()));
    }
    let Some(goes) = goes.filter(|goes| goes.voter) else {
        return Ok(());
    };
    let is = |member: &Seen, other: Option<&Seen>| other.is_some_and(|other| other.id == member.id);
    let left = |member: &&Seen| (member.voter && member.id != goes.id) || is(member, comes);
    let before = Voters::among(members.iter().filter(|member| member.voter));
    let after = Voters::among(members.iter().filter(left));
    if after.all == 0 {
        return Err(Objection::Last(goes.name.clone()));
    }
    if force {
        return Ok(());
    }
    let silent = members.iter().filter(left).filter(|left| !left.answers);
    let silent: Vec<&str> = silent.map(|member| member.name.as_str()).collect();
    match after.tolerance() {
        None => Err(Objection::LosesQuorum {
            leaves: goes.name.clone(),
            answering: after.answering,
            voters: after.all,
            needed: after.needed(),
            silent: silent.join(", "),
        }),
        Some(0) if before.tolerance() > Some(0) => Err(Objection::LosesTolerance {
            leaves: goes.name.clone(),
            answering: after.answering,
            voters: after.all,
        }),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a b -c (d) (-e)`: c does not answer, d and e are learners.
    fn members(text: &str) -> Vec<Seen> {
        let ids = 1..;
        let words = ids.zip(text.split(' ').filter(|word| !word.is_empty()));
        let members = words.map(|(id, word)| {
            let bare = word.trim_matches(['(', ')']);
            Seen {
                id,
                name: bare.trim_start_matches('-').into(),
                voter: bare == word,
                answers: !bare.starts_with('-'),
            }
        });
        members.collect()
    }

    fn outcome(text: &str, words: &str, force: bool) -> &'static str {
        let members = members(text);
        let id = |name: &str| {
            let found = members.iter().find(|member| member.name == name);
            found.map_or(99, |member| member.id)
        };
        let step = match words.split(' ').collect::<Vec<_>>()[..] {
            ["remove", name] => Step::Remove(id(name)),
            ["promote", name] => Step::Promote {
                learner: id(name),
                replaces: None,
            },
            [name, "replaces", other] => Step::Promote {
                learner: id(name),
                replaces: Some(id(other)),
            },
            _ => panic!("{words}"),
        };
        match check(&members, step, force) {
            Ok(()) => "taken",
            Err(Objection::Unknown(_)) => "unknown",
            Err(Objection::Last(_)) => "last",
            Err(Objection::Silent(_)) => "silent",
            Err(Objection::LosesQuorum { .. }) => "quorum",
            Err(Objection::LosesTolerance { .. }) => "tolerance",
        }
    }

    #[test]
    fn steps() {
        for (text, words, plain, forced) in [
            ("a b c d e", "remove e", "taken", "taken"),
            ("a b c d", "remove d", "taken", "taken"),
            ("a b c", "remove c", "tolerance", "taken"),
            ("a b", "remove b", "taken", "taken"),
            ("a", "remove a", "last", "last"),
            ("a (b)", "remove a", "last", "last"),
            ("a b c", "remove z", "unknown", "unknown"),
            // The dead one goes: nothing is lost with it.
            ("a b -c", "remove c", "taken", "taken"),
            ("a b c -d", "remove d", "taken", "taken"),
            ("a b c -d -e", "remove e", "taken", "taken"),
            ("a -b", "remove b", "taken", "taken"),
            // A living one goes while another is dead.
            ("a b -c", "remove b", "quorum", "taken"),
            // Of four, three are needed; of three, two: it could lose nobody before either.
            ("a b c -d", "remove c", "taken", "taken"),
            ("a b c d -e", "remove d", "tolerance", "taken"),
            ("a b c -d -e", "remove c", "quorum", "taken"),
            ("a b c d e -f", "remove e", "taken", "taken"),
            // Learners do not count, whether they answer or not.
            ("a b c (d)", "remove d", "taken", "taken"),
            ("a b c (-d)", "remove d", "taken", "taken"),
            ("a b c (d)", "remove c", "tolerance", "taken"),
            ("a (b)", "promote b", "taken", "taken"),
            ("a (-b)", "promote b", "silent", "silent"),
            ("a b -c (d)", "promote d", "taken", "taken"),
            ("a b -c (d)", "d replaces c", "taken", "taken"),
            ("a b c (d)", "d replaces c", "taken", "taken"),
            ("a b -c (-d)", "d replaces c", "silent", "silent"),
            ("a b c (d)", "d replaces z", "unknown", "unknown"),
            ("a (b)", "b replaces a", "taken", "taken"),
        ] {
            assert_eq!(outcome(text, words, false), plain, "{text}: {words}");
            let forced_outcome = outcome(text, words, true);
            assert_eq!(forced_outcome, forced, "{text}: {words}, forced");
        }
    }

    #[test]
    fn objections_name_both_sides() {
        let said = |text: &str, id| {
            let objection = check(&members(text), Step::Remove(id), false).unwrap_err();
            objection.to_string()
        };
        assert_eq!(
            said("a b -c", 2),
            "without b, 1 of 2 voters would answer, and 2 are needed; these do not: c. \
             Bring them back or remove them first, or force this step"
        );
        assert_eq!(
            said("a b c", 3),
            "without c, the cluster has 2 voters of which 2 answer, and cannot lose another one; \
             with c it can. Add a member first, or force this step"
        );
    }

    /// With what is taken unforced, a quorum stays one, and a tolerance above zero stays above.
    #[test]
    fn any_way_of_removing_keeps_what_the_members_can_lose() {
        let mut state = 7_u64;
        let mut next = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for round in 0..2_000 {
            let mut members: Vec<Seen> = (1..=1 + next(7))
                .map(|id| Seen {
                    id,
                    name: id.to_string(),
                    voter: next(4) > 0,
                    answers: next(4) > 0,
                })
                .collect();
            let tolerance = |members: &[Seen]| {
                Voters::among(members.iter().filter(|member| member.voter)).tolerance()
            };
            while !members.is_empty() {
                let before = tolerance(&members);
                let id = members[usize::try_from(next(members.len() as u64)).unwrap()].id;
                if check(&members, Step::Remove(id), false).is_err() {
                    break;
                }
                members.retain(|member| member.id != id);
                let after = tolerance(&members);
                let kept = before.is_none() || after >= before.min(Some(1));
                assert!(kept, "round {round}: {before:?} -> {after:?}");
            }
        }
    }
}
