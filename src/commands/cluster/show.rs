//! Prints members as a table, or as JSON. PURE.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::outcome::{Failed, Kind};

/// A member that was not heard for so long does not answer, in milliseconds.
const SILENT: u64 = 3_000;

/// The answer to /cluster/members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Members {
    pub(super) leader: Option<u64>,
    pub(super) members: Vec<Member>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) peer_address: String,
    pub(super) role: String,
    pub(super) leader: bool,
    pub(super) lag: Option<u64>,
    pub(super) heard_ms: Option<u64>,
}

impl Members {
    /// # Errors
    /// [`Failed`] if it is none.
    pub(super) fn parse(answer: &Value) -> Result<Members, Failed> {
        Members::deserialize(answer).map_err(|error| {
            let what = format!("the answer to /cluster/members is not understood: {error}");
            Failed::new(Kind::Failed, what)
        })
    }

    /// The member of this name or id.
    pub(super) fn find(&self, wanted: &str) -> Option<&Member> {
        let mut members = self.members.iter();
        let by_id = |member: &&Member| member.id.to_string() == wanted;
        let by_name = members.find(|member| member.name == wanted);
        by_name.or_else(|| self.members.iter().find(by_id))
    }

    /// What is wrong, as far as the leader knows.
    pub(super) fn complaints(&self) -> Vec<String> {
        let complain = |member: &Member| {
            let name = &member.name;
            match (&*member.role, member.heard_ms) {
                ("announced", _) => Some(format!("{name} has not joined yet")),
                (_, None) => Some(format!("{name} was never heard by the leader")),
                (_, Some(ago)) if ago > SILENT => {
                    Some(format!("{name} does not answer since {} s", ago / 1000))
                }
                ("learner", _) => Some(format!("{name} does not vote yet")),
                _ => None,
            }
        };
        self.members.iter().filter_map(complain).collect()
    }

    pub(super) fn table(&self) -> String {
        let mut rows = vec![["ID", "NAME", "ADDRESS", "ROLE", "BEHIND", "HEARD"].map(String::from)];
        rows.extend(self.members.iter().map(|member| {
            let role = match member.leader {
                true => "leader".into(),
                false => member.role.clone(),
            };
            let number = |number: Option<u64>| number.map(|number| number.to_string());
            [
                member.id.to_string(),
                member.name.clone(),
                member.peer_address.clone(),
                role,
                number(member.lag).unwrap_or_else(|| "-".into()),
                number(member.heard_ms).map_or_else(|| "-".into(), |ms| format!("{ms} ms ago")),
            ]
        }));
        align(&rows)
    }
}

/// Columns as wide as their widest cell.
fn align<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or(0) + 2;
            // Writing to a string does not fail.
            let _ = write!(line, "{cell:width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::commands::cluster) fn members(text: &str) -> Members {
        let members = text.split(", ").zip(1..).map(|(text, id)| {
            let words: Vec<&str> = text.split(' ').collect();
            let (role, heard) = (words[1], words.get(2));
            Member {
                id,
                name: words[0].into(),
                peer_address: format!("{}:4162", words[0]),
                role: role.replace("leader", "voter"),
                leader: role == "leader",
                lag: (role != "announced").then_some(0),
                heard_ms: heard.map(|ms| ms.parse().unwrap()),
            }
        });
        Members {
            leader: Some(1),
            members: members.collect(),
        }
    }

    #[test]
    fn a_table() {
        let table = members("a leader 0, bb voter 12, c announced").table();
        assert_eq!(
            table,
            "\
ID  NAME  ADDRESS  ROLE       BEHIND  HEARD
1   a     a:4162   leader     0       0 ms ago
2   bb    bb:4162  voter      0       12 ms ago
3   c     c:4162   announced  -       -
"
        );
    }

    #[test]
    fn what_is_wrong() {
        assert!(members("a leader 0, b voter 12").complaints().is_empty());
        let wrong = members("a leader 0, b voter 12000, c announced, d learner 1, e learner");
        assert_eq!(
            wrong.complaints(),
            [
                "b does not answer since 12 s",
                "c has not joined yet",
                "d does not vote yet",
                "e was never heard by the leader",
            ]
        );
    }

    #[test]
    fn a_member_is_found_by_name_or_id() {
        let members = members("a leader 0, 1 voter 0");
        let id = |wanted| members.find(wanted).map(|member| member.id);
        assert_eq!((id("a"), id("1"), id("2")), (Some(1), Some(2), Some(2)));
        assert_eq!(id("b"), None);
    }
}
