//! Turns observations of the cluster into lines for the user. PURE.

use super::plan::Plan;
use super::watch::{Sight, View};

/// Rounds without a leader that are reported; an election takes fewer.
const LEADERLESS_ROUNDS: u32 = 8;

/// Rounds without a response after which a member started by hand counts as gone.
const SILENT_ROUNDS: u32 = 2;

/// The cluster so far.
pub(super) struct Story {
    members: Vec<Member>,
    leader: Option<(usize, u64)>,
    leaderless_rounds: u32,
    ever_ready: bool,
}

struct Member {
    name: String,
    command: String,
    state: State,
}

enum State {
    Ours { pid: u32 },
    Gone,
    ByHand { silent_rounds: u32 },
}

impl Story {
    pub(super) fn new(plan: &Plan, pids: &[u32]) -> Story {
        let members = plan.members.iter().zip(pids).map(|(place, pid)| Member {
            name: place.name.clone(),
            command: plan.command(place),
            state: State::Ours { pid: *pid },
        });
        Story {
            members: members.collect(),
            leader: None,
            leaderless_rounds: 0,
            ever_ready: false,
        }
    }

    /// Whether there was ever a leader.
    pub(super) fn ever_ready(&self) -> bool {
        self.ever_ready
    }

    /// A process that we started has ended.
    pub(super) fn ended(&mut self, index: usize, how: &str) -> Vec<String> {
        let led = self.leader.is_some_and(|(leader, _)| leader == index);
        let Some(member) = self.members.get_mut(index) else {
            return Vec::new();
        };
        let State::Ours { pid } = member.state else {
            return Vec::new();
        };
        member.state = State::Gone;
        let role = if led { ", the leader," } else { "" };
        vec![format!(
            "{} (pid {pid}){role} {how}; to start it again, in another terminal:\n\n    {}\n",
            member.name, member.command
        )]
    }

    /// A round of requests has ended.
    pub(super) fn seen(&mut self, sights: &[Sight]) -> Vec<String> {
        let mut lines = Vec::new();
        for (member, sight) in self.members.iter_mut().zip(sights) {
            lines.extend(member.seen(sight));
        }
        lines.extend(self.leader_seen(sights));
        lines
    }

    /// Members that the user has to stop.
    pub(super) fn left_over(&self) -> Vec<String> {
        let by_hand = self
            .members
            .iter()
            .filter(|member| matches!(member.state, State::ByHand { .. }));
        by_hand
            .map(|member| {
                let name = &member.name;
                format!("{name} was started by hand and still runs; stop it in the terminal where it was started")
            })
            .collect()
    }

    fn leader_seen(&mut self, sights: &[Sight]) -> Option<String> {
        let Some((index, term)) = find_leader(sights) else {
            self.leaderless_rounds += 1;
            // Reported once, and only if there was a leader before.
            if self.leaderless_rounds != LEADERLESS_ROUNDS || self.leader.is_none() {
                return None;
            }
            self.leader = None;
            let up = sights.iter().filter(|sight| matches!(sight, Sight::Up(_)));
            let (up, all) = (up.count(), self.members.len());
            return Some(format!(
                "no leader: {up} of {all} members respond; until a majority does, lookups are \
                 stale and registrations wait"
            ));
        };
        self.leaderless_rounds = 0;
        if self.leader == Some((index, term)) {
            return None;
        }
        self.leader = Some((index, term));
        let name = self.members.get(index).map_or("?", |member| &member.name);
        Some(if self.ever_ready {
            format!("{name} is the leader now (term {term})")
        } else {
            self.ever_ready = true;
            format!("ready: {name} is the leader (term {term})")
        })
    }
}

impl Member {
    fn seen(&mut self, sight: &Sight) -> Option<String> {
        let name = &self.name;
        match (&mut self.state, sight) {
            (State::Ours { .. }, _) | (State::Gone, Sight::Gone) => None,
            (State::Gone, _) => {
                self.state = State::ByHand { silent_rounds: 0 };
                Some(format!(
                    "{name} is back; stop it with Ctrl-C in the terminal where it was started"
                ))
            }
            (State::ByHand { silent_rounds }, Sight::Gone) => {
                *silent_rounds += 1;
                if *silent_rounds < SILENT_ROUNDS {
                    return None;
                }
                self.state = State::Gone;
                let command = &self.command;
                Some(format!(
                    "{name} is gone again; to start it:\n\n    {command}\n"
                ))
            }
            (State::ByHand { silent_rounds }, _) => {
                *silent_rounds = 0;
                None
            }
        }
    }
}

/// The member that a majority, itself included, reports as leader in the newest term. A dead leader
/// does not count, nor does what a member remembers from before a restart.
fn find_leader(sights: &[Sight]) -> Option<(usize, u64)> {
    let views = sights.iter().enumerate();
    let views = views.filter_map(|(index, sight)| match sight {
        Sight::Up(view) => Some((index, view)),
        _ => None,
    });
    let views: Vec<(usize, &View)> = views.collect();
    let known = views.iter().filter(|(_, view)| view.leader.is_some());
    let newest = known.map(|(_, view)| view.term).max()?;
    let follow = |view: &View, id| view.term == newest && view.leader == Some(id);
    let (index, leader) = views.iter().find(|(_, view)| follow(view, view.id))?;
    let followers = views.iter().filter(|(_, view)| follow(view, leader.id));
    (followers.count() > sights.len() / 2).then_some((*index, newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Story {
        let members = (1..=3).map(|number| Member {
            name: format!("n{number}"),
            command: format!("start n{number}"),
            state: State::Ours { pid: 100 + number },
        });
        Story {
            members: members.collect(),
            leader: None,
            leaderless_rounds: 0,
            ever_ready: false,
        }
    }

    /// Of the members 1, 2, 3: `None` is gone, else (leader or 0, term).
    fn sights(views: [Option<(u64, u64)>; 3]) -> Vec<Sight> {
        let sight = |(id, view)| match view {
            None => Sight::Gone,
            Some((leader, term)) => Sight::Up(View {
                id,
                leader: (leader > 0).then_some(leader),
                term,
            }),
        };
        (1..).zip(views).map(sight).collect()
    }

    #[test]
    fn who_leads() {
        for (views, leader) in [
            ([Some((1, 1)), Some((1, 1)), Some((1, 1))], Some((0, 1))),
            ([Some((1, 1)), Some((1, 1)), None], Some((0, 1))),
            // It reaches no other member, but still reports itself.
            ([Some((1, 1)), None, None], None),
            // All remember a term, none has heard from the leader yet.
            ([Some((0, 1)), Some((2, 1)), Some((0, 1))], None),
            // A deposed leader does not know it yet.
            ([Some((1, 1)), Some((3, 2)), Some((3, 2))], Some((2, 2))),
            // The others have not noticed that theirs is dead.
            ([None, Some((1, 1)), Some((1, 1))], None),
            // An election.
            ([None, Some((0, 2)), Some((1, 1))], None),
            ([None, None, None], None),
        ] {
            assert_eq!(find_leader(&sights(views)), leader, "{views:?}");
        }
    }

    #[test]
    fn the_leader_is_killed_and_comes_back() {
        let mut story = story();
        let loading = [Sight::Gone, Sight::Loading, Sight::Gone];
        assert_eq!(story.seen(&loading), [""; 0]);
        assert!(!story.ever_ready());
        let led_by_1 = sights([Some((1, 1)); 3]);
        assert_eq!(story.seen(&led_by_1), ["ready: n1 is the leader (term 1)"]);
        assert_eq!(story.seen(&led_by_1), [""; 0]);
        assert!(story.ever_ready());

        let lines = story.ended(0, "was killed by signal 9");
        assert_eq!(
            lines,
            ["n1 (pid 101), the leader, was killed by signal 9; \
              to start it again, in another terminal:\n\n    start n1\n"]
        );
        assert_eq!(
            story.seen(&sights([None, Some((1, 1)), Some((1, 1))])),
            [""; 0]
        );
        let led_by_3 = sights([None, Some((3, 2)), Some((3, 2))]);
        assert_eq!(story.seen(&led_by_3), ["n3 is the leader now (term 2)"]);

        let back = sights([Some((3, 2)); 3]);
        assert_eq!(
            story.seen(&back),
            ["n1 is back; stop it with Ctrl-C in the terminal where it was started"]
        );
        assert_eq!(story.left_over().len(), 1);
        // One lost answer is no death.
        assert_eq!(story.seen(&led_by_3), [""; 0]);
        assert_eq!(story.seen(&back), [""; 0]);
        assert_eq!(story.seen(&led_by_3), [""; 0]);
        assert_eq!(
            story.seen(&led_by_3),
            ["n1 is gone again; to start it:\n\n    start n1\n"]
        );
        assert_eq!(story.left_over(), [""; 0]);
    }

    #[test]
    fn no_majority() {
        let mut story = story();
        story.seen(&sights([Some((1, 1)); 3]));
        story.ended(1, "was killed by signal 9");
        story.ended(2, "was killed by signal 9");
        let alone = sights([Some((1, 1)), None, None]);
        let lines: Vec<String> = (0..30).flat_map(|_| story.seen(&alone)).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("no leader: 1 of 3 members respond"),
            "{lines:?}"
        );
        let again = sights([Some((1, 1)), Some((1, 1)), None]);
        let lines = story.seen(&again);
        assert_eq!(lines[1], "n1 is the leader now (term 1)");
    }
}
