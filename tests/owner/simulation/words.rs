//! What a session has said, and what must follow from it: the oracle.
//!
//! It follows design.md and looks at the outside only: commands in the order in which the server
//! reads them, answers, and what is committed.

use super::names::{COUNT, Name};

/// What a session says about one name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Word {
    pub said: Said,
    /// Its REGISTER was answered `OK`.
    pub confirmed: bool,
    /// It was recorded at the session's member at some time since that REGISTER.
    pub recorded: bool,
    /// It must be in the registry from now on.
    pub promised: bool,
    /// A topic that was named with a channel only.
    pub implied: bool,
    /// A delete was committed since that REGISTER.
    pub deleted: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    #[default]
    No,
    /// A delete came at a moment that can be seen either way.
    Maybe,
    Yes,
}

#[derive(Debug, Clone, Default)]
pub struct Words([Word; COUNT]);

impl Words {
    pub fn of(&self, name: Name) -> Word {
        self.0[name.0]
    }

    /// REGISTER is read; `recorded` says what is recorded at this moment.
    pub fn register(&mut self, name: Name, recorded: impl Fn(Name) -> bool) {
        let fresh = |name: Name, implied: bool| Word {
            said: Said::Yes,
            recorded: recorded(name),
            implied,
            ..Word::default()
        };
        self.0[name.0] = fresh(name, false);
        let topic = name.topic();
        if topic != name && self.of(topic).said != Said::Yes {
            self.0[topic.0] = fresh(topic, true);
        }
    }

    /// UNREGISTER is read.
    pub fn unregister(&mut self, name: Name) {
        let word = self.of(name);
        if !name.is_topic() && word.said == Said::Yes && !word.confirmed {
            // What was said of the topic with it stays, and is not confirmed either.
            let topic = &mut self.0[name.topic().0];
            topic.confirmed = false;
            topic.implied = true;
        }
        for below in name.below() {
            self.0[below] = Word::default();
        }
    }

    /// REGISTER is answered `OK`; the name is in the registry.
    pub fn confirm(&mut self, name: Name) {
        for sub in [name, name.topic()] {
            let word = &mut self.0[sub.0];
            if word.said != Said::No {
                word.confirmed |= sub == name || word.implied;
                word.promised = word.said == Said::Yes;
            }
        }
    }

    /// A claim of the name is committed for the session's producer and member.
    pub fn is_recorded(&mut self, name: Name) {
        self.0[name.0].recorded = true;
        self.0[name.topic().0].recorded = true;
    }

    /// A delete of the name is committed.
    pub fn delete(&mut self, name: Name) {
        let mut stays = Said::No;
        for below in name.below().rev() {
            let is_topic = Name(below).is_topic() && name.is_topic();
            let word = &mut self.0[below];
            if word.said == Said::No {
                continue;
            }
            word.promised = false;
            word.deleted = true;
            word.said = match word {
                Word {
                    confirmed: true, ..
                } => Said::No,
                Word {
                    recorded: false,
                    implied: false,
                    ..
                } => word.said,
                _ => Said::Maybe,
            };
            if is_topic && word.said < stays {
                // Channels that stay keep their topic.
                *word = Word {
                    said: stays,
                    recorded: word.recorded,
                    implied: true,
                    deleted: true,
                    ..Word::default()
                };
            }
            stays = stays.max(word.said);
        }
    }

    /// It was confirmed, and deleted before the answer.
    pub fn was_deleted(&mut self, name: Name) {
        for name in [name, name.topic()] {
            let word = &mut self.0[name.0];
            word.promised = false;
            if word.said == Said::Yes {
                word.said = Said::Maybe;
            }
        }
    }

    /// Nothing is promised while the member is away.
    pub fn retract(&mut self) {
        for word in &mut self.0 {
            word.promised = false;
        }
    }

    pub fn promised(&self) -> impl Iterator<Item = Name> {
        let words = self.0.iter().enumerate();
        words
            .filter(|(_, word)| word.promised)
            .map(|(at, _)| Name(at))
    }
}
